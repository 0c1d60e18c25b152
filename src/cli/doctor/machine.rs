//! What the node stands on: its certificates, and the folder it keeps its data in.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::certificate;
use super::finding::Finding;
use crate::config::{Config, OneOrMany, Tls};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Renewal is automatic nearly everywhere, and happens a month before: by now it has failed.
const SOON: u64 = 14;
const MIB: u64 = 1024 * 1024;
/// A full disk refuses pushes.
const LITTLE: u64 = 1024 * MIB;
const TOO_LITTLE: u64 = 64 * MIB;

pub(super) fn certificates(config: &Config) -> Vec<Finding> {
    let sections = config.listen.iter().map(|it| it.tls.as_ref()).chain([config.api.tls.as_ref()]);
    let pairs = sections.flatten().flat_map(|tls| match tls {
        Tls::Pairs(OneOrMany(pairs)) => pairs.as_slice(),
        Tls::SelfSigned => &[],
    });
    pairs.map(|pair| expiry(&pair.cert, SystemTime::now())).collect()
}

fn expiry(path: &Path, now: SystemTime) -> Finding {
    let name = path.display();
    let fix = "renew it; the node takes the new file up by itself";
    let ends = match certificate::valid_until(path) {
        Ok(ends) => ends,
        Err(why) => return Finding::failed("certificate", format!("{name}: {why}"), "see `tls`"),
    };
    match ends.duration_since(now).map(|left| left.as_secs() / DAY.as_secs()) {
        Ok(days @ ..SOON) => Finding::warning("certificate", format!("{name} expires in {days} days"), fix),
        Ok(days) => Finding::ok("certificate", format!("{name} is valid for {days} days")),
        Err(_) => Finding::failed("certificate", format!("{name} has expired"), fix),
    }
}

pub(super) fn data_folder(config: &Config) -> Finding {
    let config = serde_json::to_value(config).unwrap_or_default();
    match config["data"]["path"].as_str() {
        Some(path) => space(Path::new(path)),
        None => Finding::ok("data", "kept in memory: a restart forgets history and positions"),
    }
}

fn space(folder: &Path) -> Finding {
    let name = folder.display();
    let free = match rustix::fs::statvfs(folder) {
        Ok(it) => it.f_bavail * it.f_frsize,
        Err(error) => return Finding::failed("data", format!("{name}: {error}"), "see `data.path`"),
    };
    let found = format!("{name} has {} MiB left", free / MIB);
    match free {
        ..TOO_LITTLE => Finding::failed("data", found, "make room: a full disk refuses every push"),
        TOO_LITTLE..LITTLE => Finding::warning("data", found, "make room: a full disk refuses every push"),
        _ => Finding::ok("data", found),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn a_certificate_that_ends_soon_is_a_warning_and_one_that_ended_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cert.pem");
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["app.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 5, 6);
        std::fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
        let ends = httpdate::parse_http_date("Tue, 06 May 2031 00:00:00 GMT").unwrap();
        let on = |time| expiry(&path, time).verdict;
        assert_eq!(certificate::valid_until(&path).unwrap(), ends);
        assert_eq!(on(ends - 15 * DAY), Verdict::Ok);
        assert_eq!(on(ends - 13 * DAY), Verdict::Warning);
        assert_eq!(on(ends + DAY), Verdict::Failed);
        std::fs::write(&path, "nothing").unwrap();
        assert_eq!(on(ends), Verdict::Failed);
    }

    #[test]
    fn a_folder_that_is_not_there_is_a_failure() {
        assert_eq!(space(Path::new("/nowhere/at/all")).verdict, Verdict::Failed);
    }
}

//! Until when a certificate is valid. Of the whole of X.509 that is one field, found by walking past those before it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// DER tags that are met on the way.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of the first certificate in a PEM file.
pub(super) fn valid_until(path: &Path) -> Result<SystemTime, String> {
    let certificate = CertificateDer::from_pem_file(path).map_err(|error| error.to_string())?;
    not_after(&certificate).ok_or_else(|| "holds something that is no certificate".to_owned())
}

/// RFC 5280 section 4.1: the validity follows version, serial number, signature algorithm and issuer.
fn not_after(der: &[u8]) -> Option<SystemTime> {
    let mut certificate = Der(Der(der).take(SEQUENCE)?);
    let mut fields = Der(certificate.take(SEQUENCE)?);
    if fields.0.first() == Some(&VERSION) {
        fields.next()?;
    }
    for _ in ["serial number", "signature algorithm", "issuer"] {
        fields.next()?;
    }
    let mut validity = Der(fields.take(SEQUENCE)?);
    validity.next()?;
    let (tag, text) = validity.next()?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// What is left of a DER value.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn take(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next().filter(|(tag, _)| *tag == wanted).map(|(_, value)| value)
    }

    /// The next tag and its content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (first, mut rest) = rest.split_first()?;
        let mut length = usize::from(*first);
        if length > 0x80 {
            let (bytes, after) = rest.split_at_checked(length - 0x80)?;
            length =
                bytes.iter().try_fold(0_usize, |sum, byte| sum.checked_mul(256)?.checked_add(usize::from(*byte)))?;
            rest = after;
        }
        let (value, after) = rest.split_at_checked(length)?;
        self.0 = after;
        Some((*tag, value))
    }
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn time(tag: u8, text: &str) -> Option<SystemTime> {
    let text = text.strip_suffix('Z').filter(|it| it.is_ascii())?;
    let (year, rest) = match tag {
        // RFC 5280: 50 to 99 are of the last century.
        UTC_TIME => {
            (text.get(..2)?.parse::<u64>().map(|it| if it < 50 { 2000 + it } else { 1900 + it }).ok()?, text.get(2..)?)
        }
        GENERALIZED_TIME => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    let field = |at: usize| rest.get(at..at + 2)?.parse::<u64>().ok();
    let (month, day) = (field(0)?, field(2)?);
    let seconds = field(4)? * 3600 + field(6)? * 60 + field(8)?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(days_since_epoch(year, month, day)? * 86_400 + seconds))
}

/// Of the Gregorian calendar. A year begins in March here, so that the leap day is its last.
fn days_since_epoch(year: u64, month: u64, day: u64) -> Option<u64> {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    (year * 365 + leap_days + (month * 153 + 2) / 5 + day).checked_sub(719_469)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_write_a_time_are_read() {
        let is = |tag, text: &str, date: &str| {
            assert_eq!(time(tag, text), Some(httpdate::parse_http_date(date).unwrap()), "{text}");
        };
        is(UTC_TIME, "310506070809Z", "Tue, 06 May 2031 07:08:09 GMT");
        is(UTC_TIME, "991231235959Z", "Fri, 31 Dec 1999 23:59:59 GMT");
        is(GENERALIZED_TIME, "20520229000000Z", "Thu, 29 Feb 2052 00:00:00 GMT");
        for bad in ["", "Z", "31Z", "3105060708Z", "ü10506070809Z"] {
            assert_eq!(time(UTC_TIME, bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_cut_off_anywhere_is_no_certificate() {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let der: &[u8] = made.cert.der();
        assert!(not_after(der).is_some());
        (0..der.len()).for_each(|end| assert_eq!(not_after(&der[..end]), None, "{end}"));
    }
}

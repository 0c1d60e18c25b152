use super::question::percent_decoded;

/// The path of the webhooks on the backend, which is nobody else's to call, however it is spelled: what a backend's
/// router takes for the same path is the same path here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedPath(Vec<Vec<u8>>);

impl ClosedPath {
    pub fn new(path: &str) -> Self {
        Self(segments(path))
    }

    pub fn covers(&self, path: &str) -> bool {
        segments(path) == self.0
    }
}

/// Escapes read, empty segments and parameters left out, `.` and `..` followed.
fn segments(path: &str) -> Vec<Vec<u8>> {
    let mut segments = Vec::new();
    for segment in percent_decoded(path).split(|byte| *byte == b'/') {
        match segment.split(|byte| *byte == b';').next().unwrap_or_default() {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            name => segments.push(name.to_vec()),
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_closed_however_it_is_spelled() {
        let closed = ClosedPath::new("/webhooks/realtime");
        for same in [
            "/webhooks/realtime",
            "/webhooks/realtime/",
            "//webhooks//realtime",
            "/%77ebhooks/realtime",
            "/webhooks%2Frealtime",
            "/webhooks/./realtime",
            "/a/%2e%2e/webhooks/realtime",
            "/webhooks/realtime;a=b",
        ] {
            assert!(closed.covers(same), "{same}");
        }
        for other in ["/", "/webhooks", "/webhooks/realtime/more", "/webhooks/realtime2", "/webhooks/../realtime"] {
            assert!(!closed.covers(other), "{other}");
        }
    }
}

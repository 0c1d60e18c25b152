//! The login: a signed cookie with the chosen name in it, so that nothing has to be kept.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// What somebody wants to be called.
#[derive(Debug, PartialEq, Eq)]
pub struct Nick(String);

impl Nick {
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_short = (1..=24).contains(&text.chars().count());
        let is_plain = text.chars().all(|it| it.is_alphanumeric() || it == '-' || it == '_');
        (is_short && is_plain).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Issues and reads login cookies. Each process signs with a key of its own: a restart logs everybody out.
pub struct Cookies(hmac::Key);

const NAME: &str = "demo_session";

impl Cookies {
    pub fn new() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Self(key.expect("the system has randomness"))
    }

    /// The value of `Set-Cookie`. Not `Secure`, because the demo is served without TLS as well.
    pub fn issue(&self, nick: &Nick) -> String {
        let tag = hmac::sign(&self.0, nick.0.as_bytes());
        let [nick, tag] = [nick.0.as_bytes(), tag.as_ref()].map(|it| BASE64_URL_SAFE_NO_PAD.encode(it));
        format!("{NAME}={nick}.{tag}; Path=/; HttpOnly; SameSite=Lax")
    }

    pub fn removed() -> String {
        format!("{NAME}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0")
    }

    /// Who logged in, going by a `Cookie` header.
    pub fn find(&self, header: &str) -> Option<Nick> {
        let pairs = header.split(';').filter_map(|it| it.trim().split_once('='));
        pairs.filter(|(name, _)| *name == NAME).find_map(|(_, value)| self.read(value))
    }

    fn read(&self, value: &str) -> Option<Nick> {
        let (nick, tag) = value.split_once('.')?;
        let nick = BASE64_URL_SAFE_NO_PAD.decode(nick).ok()?;
        let tag = BASE64_URL_SAFE_NO_PAD.decode(tag).ok()?;
        hmac::verify(&self.0, &nick, &tag).ok()?;
        Nick::parse(std::str::from_utf8(&nick).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_cookie_is_believed() {
        let cookies = Cookies::new();
        let nick = Nick::parse(" Zoë ").unwrap();
        let issued = cookies.issue(&nick);
        let pair = issued.split(';').next().unwrap();
        assert_eq!(cookies.find(&format!("a=b; {pair}; c=d")), Some(nick));
        assert_eq!(Cookies::new().find(pair), None);
        let (_, tag) = pair.split_once('.').unwrap();
        let forged = format!("{NAME}={}.{tag}", BASE64_URL_SAFE_NO_PAD.encode("root"));
        assert_eq!(cookies.find(&forged), None);
        assert_eq!(cookies.find(&Cookies::removed()), None);
    }

    #[test]
    fn a_name_is_short_and_plain() {
        for bad in ["", "  ", "a b", "<b>", &"x".repeat(25)] {
            assert_eq!(Nick::parse(bad), None, "{bad:?}");
        }
    }
}

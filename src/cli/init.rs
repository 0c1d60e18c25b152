use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

use super::{CONFIG, Error, say};
use crate::backend::Target;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The backend: http://HOST:PORT, https://HOST:PORT or unix:/PATH
    #[arg(long, value_name = "URL")]
    upstream: Target,
    /// Where to write it
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  outrigger init --upstream http://127.0.0.1:3000
  outrigger init --upstream unix:/run/app.sock --config /etc/outrigger/outrigger.yaml

The file is readable by its owner alone, and one that is there already stays as it is.";

/// Fresh secrets, each 32 random bytes.
pub(super) struct Secrets {
    pub jwt: String,
    pub webhook: String,
    pub push: String,
}

pub fn run(arguments: &Arguments) -> Result<(), Error> {
    let Arguments { upstream, config } = arguments;
    let secrets = Secrets::fresh()?;
    write_new(config, &file(upstream, &secrets))?;
    say(steps(config, upstream, &secrets))
}

impl Secrets {
    pub fn fresh() -> Result<Self, Error> {
        Ok(Self {
            jwt: BASE64_STANDARD.encode(random()?),
            webhook: format!("whsec_{}", BASE64_STANDARD.encode(random()?)),
            push: BASE64_URL_SAFE_NO_PAD.encode(random()?),
        })
    }
}

fn random() -> Result<[u8; 32], Error> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| Error::Failed("the system gives no random bytes".into()))?;
    Ok(bytes)
}

/// Readable by its owner alone, and never over what is there.
fn write_new(path: &Path, text: &str) -> Result<(), Error> {
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = opened.and_then(|mut it| it.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::Usage(format!("{} is there already and stays as it is; --config FILE names another", path.display()))
        }
        _ => Error::Failed(format!("cannot write {}: {error}", path.display())),
    })
}

fn file(upstream: &Target, secrets: &Secrets) -> String {
    let Secrets { jwt, webhook, push } = secrets;
    format!(
        "\
# Outrigger in front of {upstream}. What is not here has its default: config.example.yaml shows every key.
# It holds secrets. To keep them elsewhere, write ${{NAME}} for an environment variable, or {{file: PATH}}.

listen:
  - address: 0.0.0.0:8080
  # - address: 0.0.0.0:8443
  #   tls: {{ cert: cert.pem, key: key.pem }}   # or `tls: self_signed` while developing

upstream:
  url: {upstream}

auth:
  jwt:                          # the application signs a token for each of its users with this secret
    secret: {jwt}
    algorithms: [HS256]
  # webhook: true               # or it is asked with the user's cookies, and no token is needed

channels:                       # the first rule that matches holds; without one, nobody may
  - match: room.*
    subscribe: grant            # whose token says \"channels\": [\"room.*\"]
    publish: webhook+broadcast  # the application is asked first
    history: {{ size: 100, ttl: 10m }}
  - match: user.{{user}}.**
    subscribe: user             # each user's own

webhooks:
  url: /webhooks/realtime       # on the application; the public cannot reach this path any more
  secret: {webhook}

api:
  listen: 127.0.0.1:8700
  keys:
    - name: backend
      key: {push}
      scope: [push, read]
"
    )
}

/// The four steps of adopting it, ready to be copied.
fn steps(config: &Path, upstream: &Target, secrets: &Secrets) -> String {
    let flag = if config == Path::new(CONFIG) { String::new() } else { format!(" --config {}", config.display()) };
    let mut text = String::new();
    let _ = write!(
        text,
        "\
Wrote {path}, with fresh secrets. Four steps:

1. Put it in front of {upstream}. Everything works as before, at http://localhost:8080:

     outrigger run{flag}

2. Let a page listen. The application gives each user a token, signed with `auth.jwt.secret`; this makes one to try:

     outrigger token --user 42 --channel 'room.*'{flag}

     <script src=\"/realtime/client.js\"></script>
     <script>
       const live = new Outrigger({{ token }})
       live.channel('room.1').on('message', (data) => console.log(data))
     </script>

3. Answer POST /webhooks/realtime in the application: an empty 204 allows what a client wants to publish, a 403 refuses
   it. The signature is checked with `webhooks.secret` and any Standard Webhooks library.

4. Push, from the application or from here:

     curl -H 'Authorization: Bearer {push}' \\
          -d '{{\"channel\":\"room.1\",\"data\":{{\"text\":\"hello\"}}}}' http://127.0.0.1:8700/push

     outrigger push room.1 '{{\"text\":\"hello\"}}'{flag}
",
        path = config.display(),
        push = secrets.push,
    );
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config;

    #[test]
    fn what_it_writes_needs_no_correction_and_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outrigger.yaml");
        let upstream: Target = "http://127.0.0.1:3000".parse().unwrap();
        write_new(&path, &file(&upstream, &Secrets::fresh().unwrap())).unwrap();
        let loaded = config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        assert_eq!(loaded.config.upstream.url.0[0].0, upstream);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_there_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outrigger.yaml");
        std::fs::write(&path, "mine").unwrap();
        assert!(write_new(&path, "theirs").unwrap_err().to_string().contains("stays as it is"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn secrets_are_never_the_same() {
        let (one, other) = (Secrets::fresh().unwrap(), Secrets::fresh().unwrap());
        assert!(one.jwt != other.jwt && one.webhook != other.webhook && one.push != other.push);
    }
}

//! The built-in backend of `outrigger demo`.

/// Why the demo does not run.
#[derive(Debug, thiserror::Error)]
#[error("this build has no demo")]
pub struct Error;

/// Runs until Ctrl-C.
pub async fn run() -> Result<(), Error> {
    Err(Error)
}

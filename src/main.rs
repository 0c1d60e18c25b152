use std::process::ExitCode;

use clap::Parser;
use outrigger::cli::{self, Arguments};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(it) => it,
        Err(error) => {
            eprintln!("outrigger: cannot start threads: {error}");
            return ExitCode::from(1);
        }
    };
    match runtime.block_on(cli::run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::tell(error.told());
            ExitCode::from(error.exit_code())
        }
    }
}

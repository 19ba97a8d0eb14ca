//! The `crio` program: hands over to the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    crioxide::cli::main()
}

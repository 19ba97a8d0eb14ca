//! The `crio` program: hands over to the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = crioxide::sys::pause::entry() {
        return code;
    }
    crioxide::cli::main()
}

//! `cargo xtask`: the project's chores, one file per command.
//!
//! Plain Rust and the `toml` crate only, so that it builds in seconds on a new
//! machine. What belongs here: running and checking the project. What does
//! not: anything a user of the warehouse needs. A new command is a module with
//! a `run` function and a line in [`COMMANDS`].
#![expect(
    clippy::print_stdout,
    reason = "a developer's tool talks to the terminal"
)]

mod bless;
mod ci;
mod clients;
mod docs;
mod process;
mod tally;
mod test;
mod tidy;
mod tree;

use std::process::ExitCode;

use tally::Tally;

/// A command: its name, its options, what it does, and the function that does it.
struct Command {
    name: &'static str,
    options: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<Tally, String>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "test",
        options: "[--only rust|clients]",
        about: "all tests: the workspace, then real clients against a running server",
        run: test::run,
    },
    Command {
        name: "ci",
        options: "",
        about: "everything that must pass: tidy, format, clippy, test, generated pages",
        run: ci::run,
    },
    Command {
        name: "tidy",
        options: "",
        about: "house rules that no compiler knows",
        run: tidy::run,
    },
    Command {
        name: "bless",
        options: "[CARGO TEST OPTION..]",
        about: "write the expected results of golden tests anew; read the diff afterwards",
        run: bless::run,
    },
    Command {
        name: "docs",
        options: "[--check]",
        about: "generate docs/reference from the binary, or compare",
        run: docs::run,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, options)) = arguments.split_first() else {
        print!("{}", usage());
        return ExitCode::from(2);
    };
    if matches!(name.as_str(), "help" | "-h" | "--help") {
        print!("{}", usage());
        return ExitCode::SUCCESS;
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        eprintln!("error: `{name}` is not a command\n");
        eprint!("{}", usage());
        return ExitCode::from(2);
    };
    match (command.run)(options) {
        Ok(tally) => {
            println!("{tally}");
            if tally.failed == 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

fn usage() -> String {
    let mut text = String::from("usage: cargo xtask COMMAND\n\n");
    for Command {
        name,
        options,
        about,
        run: _,
    } in COMMANDS
    {
        let call = format!("{name} {options}");
        text.push_str(&format!("  {call:<28} {about}\n"));
    }
    text
}

//! The command `tietopohja`: it reads settings, wires the crates together and starts them.
//!
//! One file per command in `commands`; `warehouse` opens a folder, `output` prints rows, `failure`
//! turns errors into exit codes. Only this crate reads the environment, the machine's clock and
//! settings files, and only this crate prints. To add a command: a file in `commands` with its
//! arguments and `run`, and a line in [`Command`].

mod audit;
mod clock;
mod commands;
mod failure;
mod output;
mod settings;
mod shipped;
mod sql_checks;
mod warehouse;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::failure::Failure;

/// Planning and grouping make and drop many small things on many threads. It asks for no huge pages: a
/// calculation takes and gives back its buffers in pieces that are smaller, and the system would fill
/// whole huge pages with zeros for them, which took half of the time and memory of a run.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The knowledge base a wellbeing services county is led with.
///
/// Source extracts are checked against contracts, pseudonymised and landed in an open lake; SQL
/// and definitions turn them into indicators; everything is read with SQL.
#[derive(Debug, Parser)]
#[command(name = "tietopohja", version, max_term_width = 100)]
struct Arguments {
    /// The warehouse folder
    #[arg(
        short = 'C',
        long = "warehouse",
        global = true,
        env = "TIETOPOHJA_DIR",
        value_name = "DIR",
        default_value = "."
    )]
    warehouse: PathBuf,
    /// What to log to standard error, such as `info` or `tietopohja_lake=debug`
    #[arg(
        long,
        global = true,
        env = "TIETOPOHJA_LOG",
        value_name = "FILTER",
        default_value = "warn,deltalake_core=off,delta_kernel=off,buoyant_kernel=off"
    )]
    log: String,
    /// How a line of the log is written
    #[arg(
        long,
        global = true,
        env = "TIETOPOHJA_LOG_FORMAT",
        value_enum,
        default_value_t = LogFormat::Text
    )]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

/// How lines of the log are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// A JSON object, for programs that collect logs
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a warehouse of synthetic extracts and public reference data, compute and serve it
    Demo(commands::demo::Demo),
    /// Make a warehouse: settings, definitions, SQL, reference data, pseudonym key, empty lake
    Init(commands::init::Init),
    /// Write synthetic source extracts with planted defects and a manifest of them
    Synth(commands::synth::Synth),
    /// Check source files against a contract, pseudonymise and commit them
    Land(commands::land::Land),
    /// Show what is stale and why; runs nothing
    Plan(commands::calc::Plan),
    /// Compute indicators whose definition or data has changed, and publish them
    Calc(commands::calc::Calc),
    /// Serve the warehouse over Arrow Flight SQL
    Serve(commands::serve::Serve),
    /// Who may connect: users and API tokens
    #[command(subcommand)]
    User(commands::user::User),
    /// Deliveries, freshness and the last run on one screen
    Status(commands::status::Status),
    /// Run one query, or open a shell
    Sql(commands::sql::Sql),
    /// The indicators of this warehouse
    #[command(subcommand)]
    Indicator(commands::indicator::Indicator),
    /// What a value is made of, down to each delivery
    Explain(commands::explain::Explain),
    /// Print a page of the reference documentation
    #[command(hide = true)]
    Reference(commands::reference::Reference),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_new(&arguments.log)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    settings::arm_fail_point();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(8 << 20)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&Failure::internal(format!("cannot start: {error}")));
            return ExitCode::from(2);
        }
    };
    let ended = runtime.block_on(async {
        let mut work = tokio::spawn(Box::pin(run(arguments)));
        tokio::select! {
            done = &mut work => done.unwrap_or_else(|error| Err(Failure::internal(format!("the command died: {error}")))),
            _ = interrupted() => {
                work.abort();
                // What the work put into temporary folders goes away when it is dropped.
                let _ = tokio::time::timeout(LET_GO, work).await;
                Err(Failure::Interrupted)
            }
        }
    });
    // Threads that still read or encode are not waited for: nothing they do is visible.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// How long an interrupted command may take to let go of what it holds.
const LET_GO: Duration = Duration::from_secs(2);

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn complain(failure: &Failure) {
    let _ = writeln!(std::io::stderr(), "{failure}");
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let folder = arguments.warehouse;
    match arguments.command {
        Command::Demo(command) => Box::pin(command.run()).await,
        Command::Init(command) => command.run(),
        Command::Synth(command) => command.run(),
        Command::Land(command) => Box::pin(command.run(&folder)).await,
        Command::Plan(command) => Box::pin(command.run(&folder)).await,
        Command::Calc(command) => Box::pin(command.run(&folder)).await,
        Command::Serve(command) => Box::pin(command.run(&folder)).await,
        Command::User(command) => command.run(&folder),
        Command::Status(command) => Box::pin(command.run(&folder)).await,
        Command::Sql(command) => Box::pin(command.run(&folder)).await,
        Command::Indicator(command) => Box::pin(command.run(&folder)).await,
        Command::Explain(command) => Box::pin(command.run(&folder)).await,
        Command::Reference(command) => Box::pin(command.run()).await,
    }
}

/// The whole command line, for the reference page.
fn command_line() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Arguments;

    #[test]
    fn every_command_can_be_asked_for() {
        // Checks names, groups and short forms of all commands, which else fails in the user's hands.
        Arguments::command().debug_assert();
    }
}

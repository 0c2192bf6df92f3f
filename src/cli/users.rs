//! `handoff users`: who is on file, for whoever administers a running service.

mod csv_file;

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::admin::{Administration, Imported};
use super::exit::{Exit, Failure};
use super::in_runtime;
use super::output::Output;

/// Put users on file
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  handoff users import people.csv
  handoff users import people.csv --service https://api.example --token-file admin.token
  handoff users import people.csv --json")]
pub(super) struct Users {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Import(Import),
}

/// Put the users of a CSV file on file, or bring them up to date
///
/// The first line names the columns: `user_id`, `name` and `phone`, in any order, with commas or semicolons between them.
/// Phone numbers begin with a plus sign and the country's code. The whole file is checked before anything is sent; then
/// the service takes 500 users at a time, each time all or none. After an interruption, import the same file again:
/// who is on file already counts as unchanged. For five days after a number was changed no SMS goes to it.
#[derive(Debug, clap::Args)]
struct Import {
    /// The file, in UTF-8
    file: PathBuf,

    #[command(flatten)]
    administration: Administration,
}

impl Users {
    pub(super) fn run(self, output: Output) -> Result<Exit, Failure> {
        let Command::Import(import) = self.command;
        let people = csv_file::read(&import.file)?;
        let mut done = Imported::default();
        let end = in_runtime(async {
            import.administration.put_users(&people, &mut done).await?;
            Ok(Exit::Success)
        });
        let Imported { created, changed, unchanged } = done;
        let counted = format!("{created} created, {changed} changed, {unchanged} unchanged");
        if let Err(Failure { exit, problem }) = end {
            let again = if done.total() == 0 { "nobody was put on file".to_owned() } else { format!("only {counted}") };
            let problem = problem.context(format!("{again} of {} users; import the file again", people.len()));
            return Err(Failure { exit, problem });
        }
        let event = json!({"event": "imported", "created": created, "changed": changed, "unchanged": unchanged});
        output.say(&format!("{} users are on file: {counted}.", people.len()), &event);
        Ok(Exit::Success)
    }
}

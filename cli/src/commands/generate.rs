//! `mapbuf completions` and `mapbuf man`: what is made from the command line's own definition.

use crate::{failure::Failure, output};
use clap::{Args as Group, Command};
use clap_complete::Shell;
use std::path::PathBuf;

/// Print the completions for a shell
///
/// For bash: mapbuf completions bash > ~/.local/share/bash-completion/completions/mapbuf
#[derive(Debug, Group)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Write the manual pages
///
/// One page for the command and one for each subcommand, in section 1. 'man -l DIR/mapbuf.1' shows the first.
#[derive(Debug, Group)]
pub struct ManArgs {
    /// The directory to write them to; it must exist
    pub directory: PathBuf,
}

/// Prints the completions of a command line.
pub fn completions(args: &CompletionsArgs, mut command: Command) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, "mapbuf", &mut text);
    output::print(&String::from_utf8_lossy(&text)).map(drop)
}

/// Writes the manual pages of a command line.
pub fn man(args: &ManArgs, command: Command) -> Result<(), Failure> {
    let command = command.disable_help_subcommand(true);
    clap_mangen::generate_to(command, &args.directory).map_err(|source| Failure::File {
        path: args.directory.clone(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Args;
    use clap::CommandFactory;
    use std::fs;

    #[test]
    fn every_command_has_a_page() {
        let directory = std::env::temp_dir().join(format!("mapbuf-man-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let args = ManArgs {
            directory: directory.clone(),
        };
        man(&args, Args::command()).unwrap();
        let text = fs::read_to_string(directory.join("mapbuf.1")).unwrap();
        assert!(
            text.contains("Exit codes") && text.contains(".TH"),
            "{text}"
        );
        for sub in Args::command().get_subcommands() {
            let page = directory.join(format!("mapbuf-{}.1", sub.get_name()));
            assert_eq!(page.exists(), !sub.is_hide_set(), "{}", page.display());
        }
        let text = fs::read_to_string(directory.join("mapbuf-create.1")).unwrap();
        assert!(text.contains("mapbuf create"), "{text}");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn completions_know_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "mapbuf", &mut text);
            let text = String::from_utf8(text).unwrap();
            assert!(
                text.contains("diagnose") && text.contains("create"),
                "{shell}"
            );
        }
    }
}

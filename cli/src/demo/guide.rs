//! The guide: it builds, and each program that it shows runs in this kernel, and ends as it is shown there.

use super::scene::{Demo, Outcome};
use crate::failure::Failure;
use rustix::fs::{memfd_create, MemfdFlags};
use serde::Deserialize;
use std::{
    fs::{self, File},
    io::{Read, Seek},
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus, Stdio},
};

/// What `cargo xtask demo` says of it.
#[derive(Deserialize)]
struct Guide {
    /// Why it does not build.
    failed: Option<String>,
    programs: Vec<Program>,
}

#[derive(Deserialize)]
struct Program {
    chapter: String,
    /// A line for the shell.
    command: String,
    /// How it ends, as a shell has it.
    status: i32,
}

/// Prepares what the others need, and takes it away again.
const SETUP: &str = "setup";

pub fn scene(demo: &mut Demo) -> Outcome {
    let Some(path) = demo.args.guide.clone() else {
        demo.not_yet("A12", "the guide is built, and run, by 'cargo xtask demo'");
        return Ok(());
    };
    let failed = |source| Failure::File {
        path: path.clone(),
        source,
    };
    let text = fs::read_to_string(&path).map_err(failed)?;
    let guide: Guide = serde_json::from_str(&text).map_err(|error| failed(error.into()))?;
    let what = match &guide.failed {
        None => "the guide builds".to_owned(),
        Some(why) => format!("the guide does not build: {why}"),
    };
    demo.check(&["A12"], guide.failed.is_none(), &what);
    let mut chapters: Vec<(&str, usize, Vec<String>)> = Vec::new();
    for program in &guide.programs {
        let wrong = run(program).map_err(failed)?;
        match chapters.last_mut() {
            Some((chapter, count, wrongs)) if *chapter == program.chapter => {
                *count += 1;
                wrongs.extend(wrong);
            }
            _ => chapters.push((&program.chapter, 1, wrong.into_iter().collect())),
        }
    }
    let mut shown = 0;
    for (chapter, count, wrongs) in chapters {
        if let Some(wrong) = wrongs.first() {
            demo.check(&["A12"], false, &format!("{chapter}: {wrong}"));
        } else if chapter != SETUP {
            shown += count;
            let plural = if count == 1 { "" } else { "s" };
            let what = format!("{chapter}: {count} program{plural} ran, and ended as shown");
            demo.check(&["A12"], true, &what);
        }
    }
    demo.check(&["A12"], shown > 0, &format!("{shown} programs in all"));
    Ok(())
}

/// Runs it; what is wrong, if something is. What it leaves behind is not waited for, so its complaints go to a file, and not
/// to a pipe, which ends with the last that holds it.
fn run(program: &Program) -> std::io::Result<Option<String>> {
    let mut complaints = File::from(memfd_create(c"complaints", MemfdFlags::CLOEXEC)?);
    let status = Command::new("sh")
        .args(["-c", &program.command])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(complaints.try_clone()?)
        .status()?;
    let status = as_a_shell_has_it(status);
    let mut complained = Vec::new();
    complaints.rewind()?;
    complaints.read_to_end(&mut complained)?;
    Ok((status != program.status).then(|| {
        format!(
            "'{}' ended with {status}, not {}: {}",
            program.command,
            program.status,
            last_line(&complained)
        )
    }))
}

fn as_a_shell_has_it(status: ExitStatus) -> i32 {
    let signal = status.signal().map(|signal| 128 + signal);
    status.code().or(signal).unwrap_or(-1)
}

fn last_line(complained: &[u8]) -> String {
    let text = String::from_utf8_lossy(complained);
    text.lines().last().unwrap_or("it said nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(command: &str, status: i32) -> Program {
        Program {
            chapter: "x".into(),
            command: command.into(),
            status,
        }
    }

    #[test]
    fn how_it_ended_and_what_it_said_last_is_told() {
        assert_eq!(run(&program("exit 3", 3)).unwrap(), None);
        let wrong = run(&program("echo a >&2; echo b >&2; exit 3", 0)).unwrap();
        assert!(wrong.unwrap().ends_with("ended with 3, not 0: b"));
    }

    // With a pipe this would end with the other process.
    #[test]
    fn what_a_program_leaves_behind_is_not_waited_for() {
        let fifo = std::env::temp_dir().join(format!("mapbuf-left-{}", std::process::id()));
        let fifo = fifo.display();
        let left = program(&format!("mkfifo {fifo}; (read x < {fifo}) & exit 0"), 0);
        assert_eq!(run(&left).unwrap(), None);
        let end = program(&format!("echo x > {fifo}; rm {fifo}"), 0);
        assert_eq!(run(&end).unwrap(), None);
    }
}

//! A scene of the demo, and the process in which it plays.
//!
//! The demo runs itself once for each scene, with a socket as the scene's standard input: into that the scene writes what
//! it saw, a line of JSON a time, so that what was seen before its death is known too. What people read goes to the
//! common standard output.

use super::{note::Note, stage::Stage};
use crate::failure::Failure;
use std::{
    error::Error,
    fs::File,
    io::{self, BufRead, BufReader, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    path::PathBuf,
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// The hidden command that plays one scene.
pub const SCENE: &str = "demo-scene";

/// How long a scene may tell nothing; under emulation the longest takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the time is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(500);

/// The environment variable that names the file with the time, in the kit's guests.
const CLOCK: &str = "MAPBUF_CLOCK";

/// How long a process that was killed may take to go.
const LAST: Duration = Duration::from_secs(5);

/// What becomes of a scene that could not go on.
pub type Outcome = Result<(), Box<dyn Error>>;

/// A scene.
pub struct Scene {
    /// What it is called on the command line.
    pub name: &'static str,
    title: &'static str,
    /// The requirements that fail when it breaks off.
    pub shows: &'static [&'static str],
    play: fn(&mut Demo) -> Outcome,
}

impl Scene {
    /// A scene; one without a title goes on with what the one before it began.
    pub const fn new(
        name: &'static str,
        title: &'static str,
        shows: &'static [&'static str],
        play: fn(&mut Demo) -> Outcome,
    ) -> Self {
        Self {
            name,
            title,
            shows,
            play,
        }
    }
}

/// Play one scene of the demo, and tell the socket at standard input what was seen
#[derive(Clone, Debug, clap::Args)]
pub struct SceneArgs {
    /// Which scene
    pub name: String,
    /// Show nothing to people
    #[arg(long)]
    pub silent: bool,
    /// The module's file
    #[arg(long)]
    pub module: Option<PathBuf>,
    /// What the guide shows
    #[arg(long)]
    pub guide: Option<PathBuf>,
    /// Buffers and bytes that were there before the demo, with a colon between them
    #[arg(long)]
    pub before: Option<String>,
    /// The module may stay loaded for good
    #[arg(long)]
    pub dma_heaps: bool,
}

impl SceneArgs {
    fn words(&self) -> Vec<std::ffi::OsString> {
        let mut words = vec![SCENE.into(), self.name.clone().into()];
        if self.silent {
            words.push("--silent".into());
        }
        if self.dma_heaps {
            words.push("--dma-heaps".into());
        }
        if let Some(module) = &self.module {
            words.extend(["--module".into(), module.into()]);
        }
        if let Some(guide) = &self.guide {
            words.extend(["--guide".into(), guide.into()]);
        }
        if let Some(before) = &self.before {
            words.extend(["--before".into(), before.into()]);
        }
        words
    }
}

/// A scene that plays: where it is shown, and to whom it tells what it sees.
pub struct Demo {
    /// Where it is shown.
    pub stage: Stage,
    /// What it was told.
    pub args: SceneArgs,
    ear: File,
}

impl Demo {
    /// Shows what a check saw, and tells of it.
    pub fn check(&mut self, shows: &[&'static str], held: bool, what: &str) {
        self.stage.check(held, what, shows);
        self.tell(&Note::Check {
            shows: shows.iter().map(|id| (*id).to_owned()).collect(),
            held,
            what: what.to_owned(),
        });
    }

    /// Tells why a requirement cannot be shown yet.
    pub fn not_yet(&mut self, id: &'static str, why: &str) {
        self.stage.not_yet(why, id);
        self.tell(&Note::NotYet {
            id: id.to_owned(),
            why: why.to_owned(),
        });
    }

    /// Tells the demo something.
    pub fn tell(&mut self, note: &Note) {
        let Ok(mut line) = serde_json::to_vec(note) else {
            return;
        };
        line.push(b'\n');
        // One that nobody listens to is seen as what it is by whoever reads its end.
        let _ = self.ear.write_all(&line);
    }
}

/// Plays a scene in this process.
pub fn play(scene: &Scene, args: SceneArgs) -> Result<ExitCode, Failure> {
    let failed = |source| Failure::File {
        path: "standard input".into(),
        source,
    };
    let ear = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let mut demo = Demo {
        stage: Stage::new(args.silent),
        args,
        ear: ear.into(),
    };
    if !scene.title.is_empty() {
        demo.stage.heading(scene.title);
    }
    if let Err(error) = (scene.play)(&mut demo) {
        demo.check(scene.shows, false, &format!("broken off: {error}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// How a scene ended.
#[derive(Debug, Eq, PartialEq)]
pub enum Played {
    /// By itself.
    Out,
    /// This has happened to it.
    Died(String),
}

/// Has a scene played by a process of its own, and passes on what it tells.
pub fn watch(args: &SceneArgs, hear: &mut dyn FnMut(Note)) -> Played {
    let begun = start(args);
    let (mut child, reader) = match begun {
        Ok(begun) => begun,
        Err(error) => return Played::Died(format!("the scene could not be started: {error}")),
    };
    let (sender, notes) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            // A line that its writer did not live to end tells nothing.
            if let Ok(note) = serde_json::from_str(&line) {
                if sender.send(note).is_err() {
                    return;
                }
            }
        }
    });
    let mut heard = now();
    loop {
        match notes.recv_timeout(LOOK) {
            Ok(note) => {
                hear(note);
                heard = now();
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if now().saturating_sub(heard) < PATIENCE => {}
            Err(RecvTimeoutError::Timeout) => {
                // That it has gone meanwhile is no reason to say anything else.
                let _ = child.kill();
                let gone = ended(&mut child, LAST).is_some();
                let what = match gone {
                    true => "it did not end, and was killed",
                    false => "it hangs in the kernel",
                };
                return Played::Died(format!("{what}, after {} s", PATIENCE.as_secs()));
            }
        }
    }
    // It has closed the socket, which it does not before its end.
    match ended(&mut child, LAST) {
        Some(status) => how(status),
        None => Played::Died("it told its end, and did not come to it".to_owned()),
    }
}

/// The time by which a scene's patience counts. In the kit's guests it is the one that the host tells (a file that holds
/// milliseconds, as eight bytes): their clocks go on while the host has no processor for them.
fn now() -> Duration {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    let own = BEGUN.get_or_init(Instant::now).elapsed();
    let told = || -> Option<Duration> {
        let bytes = std::fs::read(std::env::var_os(CLOCK)?).ok()?;
        let milliseconds = u64::from_le_bytes(*bytes.first_chunk()?);
        Some(Duration::from_millis(milliseconds))
    };
    told().unwrap_or(own)
}

fn start(args: &SceneArgs) -> io::Result<(Child, UnixStream)> {
    let (reader, writer) = UnixStream::pair()?;
    let child = Command::new("/proc/self/exe")
        .args(args.words())
        .stdin(Stdio::from(OwnedFd::from(writer)))
        .spawn()?;
    Ok((child, reader))
}

/// Waits for a process; `None` when it is still there after so long.
fn ended(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let begun = now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if now().saturating_sub(begun) < patience => {
                thread::sleep(Duration::from_millis(1))
            }
            _ => return None,
        }
    }
}

fn how(status: ExitStatus) -> Played {
    match (status.success(), status.signal()) {
        (true, _) => Played::Out,
        (_, Some(number)) => {
            let name = nix::sys::signal::Signal::try_from(number);
            let name = name.map_or_else(|_| number.to_string(), |signal| signal.to_string());
            Played::Died(format!("killed by {name}"))
        }
        _ => Played::Died(format!("it failed: {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_is_told() {
        assert_eq!(how(ExitStatus::from_raw(0)), Played::Out);
        assert_eq!(
            how(ExitStatus::from_raw(7)),
            Played::Died("killed by SIGBUS".to_owned())
        );
        assert!(matches!(how(ExitStatus::from_raw(1 << 8)), Played::Died(_)));
    }
}

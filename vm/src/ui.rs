//! What the person who waits gets to see: a bar on a terminal, plain lines otherwise.

use anyhow::{bail, Context, Result};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How many of a failed program's last lines are shown.
const TAIL: usize = 25;

/// How often something that takes long says so where there is no terminal.
const STILL: Duration = Duration::from_secs(30);

/// Says what is going on, on standard error.
#[derive(Clone, Debug)]
pub struct Ui {
    terminal: bool,
    quiet: bool,
    /// Those on the terminal at this moment, one below the other.
    bars: MultiProgress,
}

impl Default for Ui {
    fn default() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            quiet: false,
            bars: MultiProgress::new(),
        }
    }
}

impl Ui {
    /// The same, without progress: only [`note`](Self::note) speaks.
    pub fn quiet(&self) -> Self {
        Self {
            quiet: true,
            ..self.clone()
        }
    }

    /// A line that stays.
    pub fn note(&self, text: impl AsRef<str>) {
        self.bars.suspend(|| eprintln!("{}", text.as_ref()));
    }

    /// Whether there are bars.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// A bar for things that are counted; nothing where there is no terminal.
    pub fn gauge(&self, title: &str, total: u64) -> Gauge {
        let bar = if self.terminal && !self.quiet {
            let bar = self.bars.add(ProgressBar::new(total));
            let style = ProgressStyle::with_template(
                "{prefix:16} {bar:24} {pos:>5} of {len:5} {elapsed:>4} {wide_msg:.dim}",
            );
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(title.to_owned());
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        } else {
            ProgressBar::hidden()
        };
        Gauge(bar)
    }

    /// Begins something that takes a while. `lines` is about how many lines the programs that do it print, which is
    /// what the bar can show; 0 when nobody knows.
    pub fn step(&self, title: &str, lines: u64) -> Step {
        let bar = if self.quiet {
            ProgressBar::hidden()
        } else if self.terminal {
            let bar = self.bars.add(ProgressBar::new(lines));
            let template = if lines > 0 {
                "{prefix} {bar:24} {elapsed} {wide_msg:.dim}"
            } else {
                "{prefix} {spinner} {elapsed} {wide_msg:.dim}"
            };
            bar.set_style(
                ProgressStyle::with_template(template)
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.set_prefix(title.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        } else {
            eprintln!("{title} ...");
            ProgressBar::hidden()
        };
        let plain = !self.terminal && !self.quiet;
        let said = Arc::new(Mutex::new((0, String::new())));
        Step {
            title: title.to_owned(),
            bar,
            plain,
            quiet: self.quiet,
            bars: self.bars.clone(),
            begun: Instant::now(),
            lines,
            _still: plain.then(|| still(title.to_owned(), lines, said.clone())),
            said,
        }
    }
}

/// How many lines were printed, and the last one.
type Said = Arc<Mutex<(u64, String)>>;

/// Says every now and then that something is still going on, until the sender is dropped.
fn still(title: String, lines: u64, said: Said) -> Sender<()> {
    let (sender, over) = mpsc::channel();
    let begun = Instant::now();
    thread::spawn(move || {
        while over.recv_timeout(STILL) == Err(RecvTimeoutError::Timeout) {
            let said = said.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!("{}", progress(&title, begun.elapsed(), lines, &said));
        }
    });
    sender
}

fn progress(title: &str, elapsed: Duration, lines: u64, (count, last): &(u64, String)) -> String {
    let share = match (count * 100).checked_div(lines) {
        // It is known only about.
        Some(percent) => format!(", about {} %", percent.min(99)),
        None => String::new(),
    };
    let last = match last.trim() {
        "" => String::new(),
        last => format!(": {last}"),
    };
    format!("{title}: {} s so far{share}{last}", elapsed.as_secs())
}

/// A bar for things that are counted; gone when it is dropped.
#[derive(Debug)]
pub struct Gauge(ProgressBar);

impl Gauge {
    /// So many are done; and what is said beside the bar.
    pub fn set(&self, done: u64, text: &str) {
        self.0.set_position(done);
        self.0.set_message(text.to_owned());
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Something that takes a while.
#[derive(Debug)]
pub struct Step {
    title: String,
    bar: ProgressBar,
    plain: bool,
    quiet: bool,
    bars: MultiProgress,
    begun: Instant,
    lines: u64,
    said: Said,
    /// Dropped, it ends what says that the work is still going on.
    _still: Option<Sender<()>>,
}

impl Step {
    /// A line that the work has printed.
    pub fn line(&self, line: &str) {
        if self.lines > 0 && self.bar.position() + 1 < self.lines {
            self.bar.inc(1);
        }
        let line: String = line
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(160)
            .collect();
        {
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            *said = (said.0 + 1, line.clone());
        }
        self.bar.set_message(line);
    }

    /// The work is done.
    pub fn done(self) {
        self.bar.finish_and_clear();
        let seconds = self.begun.elapsed().as_secs_f32();
        if !self.quiet && (self.plain || seconds > 1.0) {
            let line = format!("{}: done in {seconds:.1} s", self.title);
            self.bars.suspend(|| eprintln!("{line}"));
        }
    }

    /// Runs a program to its end, its output going to the bar and to `log`; an error carries its last lines.
    pub fn run(&self, command: &mut Command, log: &Path) -> Result<()> {
        let name = command.get_program().to_string_lossy().into_owned();
        let (reader, writer) = pipe()?;
        command
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer);
        let mut child = command
            .spawn()
            .with_context(|| format!("{name} could not be started"))?;
        // The command holds the write end too, and the stream would never end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut log_file = File::options().create(true).append(true).open(log).ok();
        let mut tail = VecDeque::new();
        let mut reader = BufReader::new(reader);
        let mut raw = Vec::new();
        loop {
            raw.clear();
            if reader.read_until(b'\n', &mut raw)? == 0 {
                break;
            }
            if let Some(file) = &mut log_file {
                // A log that cannot be written must not be what fails.
                let _ = file.write_all(&raw);
            }
            let line = String::from_utf8_lossy(&raw).trim_end().to_owned();
            self.line(&line);
            if tail.len() == TAIL {
                tail.pop_front();
            }
            tail.push_back(line);
        }
        let status = child.wait()?;
        if !status.success() {
            let tail: Vec<_> = tail.into_iter().collect();
            bail!("{name} failed ({status}):\n{}", tail.join("\n"));
        }
        Ok(())
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn pipe() -> Result<(File, File)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((reader.into(), writer.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_work_says_how_far_it_is() {
        let minute = Duration::from_secs(60);
        let said = (500, "  CC      mm/memory.o".to_owned());
        assert_eq!(
            progress("Building", minute, 2000, &said),
            "Building: 60 s so far, about 25 %: CC      mm/memory.o"
        );
        assert_eq!(
            progress("Building", minute, 100, &(500, String::new())),
            "Building: 60 s so far, about 99 %"
        );
        assert_eq!(
            progress("Waiting", minute, 0, &(0, String::new())),
            "Waiting: 60 s so far"
        );
    }
}

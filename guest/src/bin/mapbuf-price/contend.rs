//! What it costs when many do the same at once: locks that all users share show here.

use super::subject::Subject;
use super::sys::{clock, fork, pipe, wait_for};
use super::Result;
use mapbuf_guest::price::Contended;
use std::io::{Read, Write};

/// Lives of a piece of memory, by so many processes at once: from the moment they are let go to the end of the last.
pub fn contend(
    subject: Subject,
    bytes: usize,
    processes: usize,
    lives: usize,
) -> Result<Contended> {
    Ok(Contended {
        subject: subject.name().to_owned(),
        bytes: u64::try_from(bytes)?,
        processes: u64::try_from(processes)?,
        lives: u64::try_from(lives)?,
        alone: at_once(subject, bytes, 1, lives)?,
        together: at_once(subject, bytes, processes, lives)?,
    })
}

fn at_once(subject: Subject, bytes: usize, processes: usize, lives: usize) -> Result<u64> {
    let (mut ready, mut say_ready) = pipe()?;
    let (mut start, mut say_start) = pipe()?;
    let mut children = Vec::new();
    for _ in 0..processes {
        children.push(fork(|| -> Result<()> {
            let source = subject.open()?;
            // The first one warms up what is made once.
            for life in 0..=lives {
                if life == 1 {
                    say_ready.write_all(b"x")?;
                    start.read_exact(&mut [0])?;
                }
                let memory = source.alloc(bytes)?;
                let mapped = memory.map(bytes)?;
                mapped.touch();
                mapped.unmap()?;
                memory.free()?;
            }
            Ok(())
        })?);
    }
    ready.read_exact(&mut vec![0; processes])?;
    let before = clock();
    say_start.write_all(&vec![0; processes])?;
    for child in children {
        wait_for(child)?;
    }
    Ok(clock().wrapping_sub(before))
}

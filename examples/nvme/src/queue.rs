//! A pair of rings: commands go to the disk by one, and its answers come back by the other.

use crate::command::{self, Command};
use crate::error::{Error, Result};
use crate::{Function, Memory, PAGE};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Bytes of an answer.
const ANSWER: usize = 16;
/// Where the doorbells begin in BAR 0 (section 3.1.3).
const DOORBELLS: usize = 0x1000;
/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// As many commands as have their answers in one page.
pub const MOST: u16 = (PAGE / command::BYTES) as u16;

/// A queue.
pub struct Queue<M> {
    /// Commands, in the first page; answers, in the second.
    memory: M,
    entries: u16,
    interrupt: OwnedFd,
    /// The registers that tell the disk how far this program is.
    doorbells: [usize; 2],
    tail: u16,
    head: u16,
    /// What the disk writes into an answer in this round through the ring: so a new one is told from an old one.
    phase: bool,
    /// Which commands are under way, by their identifiers, and what they are to do.
    busy: Vec<Option<u8>>,
}

/// A command that the disk has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// The identifier that [`Queue::submit`] gave.
    pub identifier: u16,
}

impl<M: Memory> Queue<M> {
    /// One for `entries` commands, at most [`MOST`]. `stride` is the distance of two doorbells.
    pub fn new<F: Function<Memory = M>>(
        function: &F,
        number: u16,
        entries: u16,
        interrupt: OwnedFd,
        stride: usize,
    ) -> Result<Self> {
        let first = DOORBELLS + 2 * usize::from(number) * stride;
        Ok(Self {
            memory: function.coherent(2 * PAGE)?,
            entries,
            interrupt,
            doorbells: [first, first + stride],
            tail: 0,
            head: 0,
            phase: true,
            // One place stays free: a ring that is full would look like an empty one.
            busy: vec![None; usize::from(entries) - 1],
        })
    }

    /// What the disk calls the ring of commands, and that of answers.
    pub fn addresses(&self) -> Result<[u64; 2]> {
        Ok([self.memory.address(0)?, self.memory.address(PAGE)?])
    }

    /// The identifier that the next command will have.
    pub fn next(&self) -> Result<u16> {
        let free = self.busy.iter().position(Option::is_none);
        let free = free.and_then(|index| u16::try_from(index).ok());
        free.ok_or(Error::QueueFull {
            entries: self.entries - 1,
        })
    }

    /// Puts a command into the ring. The disk does not look before [`ring`](Self::ring).
    pub fn submit(&mut self, command: &Command) -> Result<u16> {
        let identifier = self.next()?;
        let place = usize::from(self.tail) * command::BYTES;
        self.memory.write(place, &command.encode(identifier))?;
        self.tail = (self.tail + 1) % self.entries;
        if let Some(slot) = self.busy.get_mut(usize::from(identifier)) {
            *slot = Some(command.opcode);
        }
        Ok(identifier)
    }

    /// Tells the disk that there are commands.
    pub fn ring(&self, function: &impl Function) -> Result<()> {
        function.store(self.doorbells[0], u32::from(self.tail))
    }

    /// The next answer, if there is one.
    pub fn look(&mut self, function: &impl Function) -> Result<Option<Done>> {
        let place = PAGE + usize::from(self.head) * ANSWER;
        // The word that is written last: identifier, phase, status (section 3.3.3.2).
        let word = self.memory.load(place + 12)?;
        if (word & 1 << 16 != 0) != self.phase {
            return Ok(None);
        }
        self.head = (self.head + 1) % self.entries;
        self.phase ^= self.head == 0;
        function.store(self.doorbells[1], u32::from(self.head))?;
        let identifier = (word & 0xffff) as u16;
        let slot = self.busy.get_mut(usize::from(identifier));
        let Some(opcode) = slot.and_then(Option::take) else {
            return Err(Error::Unsuitable(format!(
                "it answers command {identifier}, which nobody gave"
            )));
        };
        // Status code and status code type.
        match (word >> 17 & 0x7ff) as u16 {
            0 => Ok(Some(Done { identifier })),
            status => Err(Error::Refused { opcode, status }),
        }
    }

    /// The next answer; waits for the interrupt while there is none.
    pub fn wait(&mut self, function: &impl Function) -> Result<Done> {
        loop {
            if let Some(done) = self.look(function)? {
                return Ok(done);
            }
            let mut fds = [PollFd::new(&self.interrupt, PollFlags::IN)];
            let patience = Timespec::try_from(PATIENCE).unwrap_or_default();
            if poll(&mut fds, Some(&patience))? == 0 {
                return Err(Error::Late {
                    what: "an answer of the disk",
                    after: PATIENCE,
                });
            }
            // How many interrupts there were is of no interest.
            rustix::io::read(&self.interrupt, &mut [0; 8])?;
        }
    }
}

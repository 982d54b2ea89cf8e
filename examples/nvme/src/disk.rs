//! The disk: starts the controller, and reads and writes.

use crate::command::{self, Command, Pages};
use crate::error::{Error, Result};
use crate::queue::{Done, Queue, MOST};
use crate::{Function, Memory, PAGE};
use std::thread;
use std::time::{Duration, Instant};

/// Controller registers (section 3.1.3).
mod register {
    /// What it can do; 64 bits.
    pub const CAP: usize = 0x00;
    /// How it is set up.
    pub const CC: usize = 0x14;
    /// How it is.
    pub const CSTS: usize = 0x1c;
    /// How long the admin queue is.
    pub const AQA: usize = 0x24;
    /// Where the admin queue's commands are; 64 bits.
    pub const ASQ: usize = 0x28;
    /// Where its answers are; 64 bits.
    pub const ACQ: usize = 0x30;
}

/// `CC`: on; commands of 2^6 bytes, answers of 2^4, pages of 4 KiB, the command set of disks.
const ENABLE: u32 = 1 | 6 << 16 | 4 << 20;
/// `CSTS`: ready, failed.
const READY: u32 = 1;
const FAILED: u32 = 2;
/// How often it is looked whether the controller is ready.
const LOOK: Duration = Duration::from_millis(1);
/// The part of the disk that is used.
const NAMESPACE: u32 = 1;

/// What the disk says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// How many blocks it has.
    pub blocks: u64,
    /// Bytes in a block.
    pub block_bytes: usize,
    /// The most bytes that one command moves.
    pub most_bytes: usize,
}

/// A disk that this program drives.
pub struct Disk<F: Function> {
    function: F,
    /// Stays, though it has nothing more to do: its ring is the controller's.
    _admin: Queue<F::Memory>,
    io: Queue<F::Memory>,
    /// A page for each command that may be under way: where its data is.
    lists: F::Memory,
    identity: Identity,
    patience: Duration,
}

impl<F: Function> Disk<F> {
    /// Resets the controller, and sets up its admin queue and one for reading and writing, with an interrupt each.
    pub fn start(function: F) -> Result<Self> {
        let low = function.load(register::CAP)?;
        let high = function.load(register::CAP + 4)?;
        // In units of half a second.
        let patience = Duration::from_millis(500) * (low >> 24);
        let stride = 4 << (high & 0xf);
        let entries = MOST.min((low & 0xffff) as u16).saturating_add(1).min(MOST);
        switch(&function, false, patience)?;

        let mut interrupts = function.interrupts(2)?.into_iter();
        let mut interrupt = || {
            let none = || Error::Unsuitable("it has fewer than two interrupts".into());
            interrupts.next().ok_or_else(none)
        };
        let mut admin = Queue::new(&function, 0, entries, interrupt()?, stride)?;
        let last = u32::from(entries - 1);
        function.store(register::AQA, last << 16 | last)?;
        for (register, address) in [register::ASQ, register::ACQ]
            .into_iter()
            .zip(admin.addresses()?)
        {
            function.store(register, address as u32)?;
            function.store(register + 4, (address >> 32) as u32)?;
        }
        switch(&function, true, patience)?;

        let io = Queue::new(&function, 1, entries, interrupt()?, stride)?;
        let identity = identify(&function, &mut admin)?;
        let [commands, answers] = io.addresses()?;
        let size = last << 16 | 1;
        // In one piece each, the answers with interrupt 1; the commands' answers go to queue 1 (sections 5.4 and 5.5).
        for (opcode, address, how) in [
            (command::CREATE_COMPLETION, answers, 1 << 16 | 0b11),
            (command::CREATE_SUBMISSION, commands, 1 << 16 | 0b01),
        ] {
            let create = Command {
                opcode,
                data: Pages::at(address),
                words: [size, how, 0],
                ..Command::default()
            };
            run(&function, &mut admin, &create)?;
        }
        Ok(Self {
            lists: function.coherent(usize::from(entries) * PAGE)?,
            function,
            _admin: admin,
            io,
            identity,
            patience,
        })
    }

    /// What it says of itself.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whose memory, registers and interrupts it uses.
    pub fn function(&self) -> &F {
        &self.function
    }

    /// Memory that it reads from and writes to.
    pub fn memory(&self, bytes: usize) -> Result<F::Memory> {
        self.function.memory(bytes)
    }

    /// Reads blocks from `block` on into memory, and waits until they are there.
    pub fn read(
        &mut self,
        block: u64,
        memory: &F::Memory,
        offset: usize,
        bytes: usize,
    ) -> Result<()> {
        self.transfer(command::READ, block, memory, offset, bytes)
    }

    /// Writes blocks from `block` on out of memory, and waits until the disk has taken them.
    pub fn write(
        &mut self,
        block: u64,
        memory: &F::Memory,
        offset: usize,
        bytes: usize,
    ) -> Result<()> {
        self.transfer(command::WRITE, block, memory, offset, bytes)
    }

    /// The disk has the bytes of the memory until it has answered.
    fn transfer(
        &mut self,
        opcode: u8,
        block: u64,
        memory: &F::Memory,
        offset: usize,
        bytes: usize,
    ) -> Result<()> {
        memory.give(offset, bytes)?;
        self.submit(opcode, block, memory, offset, bytes)?;
        self.ring()?;
        self.wait()?;
        memory.take(offset, bytes)
    }

    /// Has the disk put on its medium all that it has taken.
    pub fn flush(&mut self) -> Result<()> {
        let flush = Command {
            opcode: command::FLUSH,
            namespace: NAMESPACE,
            ..Command::default()
        };
        run(&self.function, &mut self.io, &flush).map(drop)
    }

    /// Puts a read or write of whole blocks into the queue; its identifier. The disk looks at [`ring`](Self::ring). Until
    /// the command is done, the bytes are the device's ([`Memory::give`], [`Memory::take`]).
    pub fn submit(
        &mut self,
        opcode: u8,
        block: u64,
        memory: &F::Memory,
        offset: usize,
        bytes: usize,
    ) -> Result<u16> {
        let Identity {
            block_bytes,
            most_bytes,
            ..
        } = self.identity;
        if bytes == 0 || bytes % block_bytes != 0 {
            return Err(Error::NoBlocks {
                bytes,
                block: block_bytes,
            });
        }
        if bytes > most_bytes {
            return Err(Error::TooMuch {
                bytes,
                most: most_bytes,
            });
        }
        let list = usize::from(self.io.next()?);
        let count = (bytes / block_bytes) as u32;
        self.io.submit(&Command {
            opcode,
            namespace: NAMESPACE,
            data: Pages::of(memory, offset, bytes, &self.lists, list)?,
            words: [block as u32, (block >> 32) as u32, count - 1],
        })
    }

    /// Has the disk look at what was submitted.
    pub fn ring(&self) -> Result<()> {
        self.io.ring(&self.function)
    }

    /// Waits for the next command to be done.
    pub fn wait(&mut self) -> Result<Done> {
        self.io.wait(&self.function)
    }

    /// Stops the controller, and waits until it touches no memory any more.
    pub fn stop(self) -> Result<()> {
        self.halt()
    }

    fn halt(&self) -> Result<()> {
        switch(&self.function, false, self.patience)
    }
}

/// The rings and the lists go after the controller has stopped.
impl<F: Function> Drop for Disk<F> {
    fn drop(&mut self) {
        // One that is gone touches nothing either.
        let _ = self.halt();
    }
}

/// Switches the controller on or off, and waits until it is.
fn switch(function: &impl Function, on: bool, patience: Duration) -> Result<()> {
    function.store(register::CC, if on { ENABLE } else { 0 })?;
    let begun = Instant::now();
    loop {
        let status = function.load(register::CSTS)?;
        if status == u32::MAX || (on && status & FAILED != 0) {
            return Err(Error::Dead { status });
        }
        if (status & READY != 0) == on {
            return Ok(());
        }
        if begun.elapsed() > patience {
            return Err(Error::Late {
                what: "the controller's state",
                after: patience,
            });
        }
        thread::sleep(LOOK);
    }
}

/// Runs one command, and waits for it.
fn run<F: Function>(function: &F, queue: &mut Queue<F::Memory>, command: &Command) -> Result<Done> {
    queue.submit(command)?;
    queue.ring(function)?;
    queue.wait(function)
}

/// Asks the disk what it is (section 5.17).
fn identify<F: Function>(function: &F, admin: &mut Queue<F::Memory>) -> Result<Identity> {
    let memory = function.coherent(PAGE)?;
    let mut ask = |namespace, what| -> Result<Vec<u8>> {
        let command = Command {
            opcode: command::IDENTIFY,
            namespace,
            data: Pages::at(memory.address(0)?),
            words: [what, 0, 0],
        };
        run(function, admin, &command)?;
        let mut bytes = vec![0; PAGE];
        memory.read(0, &mut bytes)?;
        Ok(bytes)
    };
    let controller = ask(0, 1)?;
    let namespace = ask(NAMESPACE, 0)?;
    let byte = |bytes: &[u8], at: usize| bytes.get(at).copied().unwrap_or_default();
    let text = |from: usize, to: usize| {
        let bytes = controller.get(from..to).unwrap_or_default();
        String::from_utf8_lossy(bytes).trim().to_owned()
    };
    let mut blocks = [0; 8];
    blocks.copy_from_slice(namespace.get(..8).unwrap_or(&[0; 8]));
    // Which of the formats is in use, and the exponent of its block size.
    let format = usize::from(byte(&namespace, 26) & 0xf);
    let exponent = byte(&namespace, 128 + 4 * format + 2);
    if !(9..=12).contains(&exponent) {
        return Err(Error::Unsuitable(format!(
            "its blocks have 2^{exponent} bytes"
        )));
    }
    // Pages, as an exponent; 0: any number. One page of addresses is enough for 2 MiB.
    let most = match byte(&controller, 77) {
        exponent @ 1..=8 => PAGE << exponent,
        _ => PAGE << 9,
    };
    Ok(Identity {
        model: text(24, 64),
        serial: text(4, 24),
        blocks: u64::from_le_bytes(blocks),
        block_bytes: 1 << exponent,
        most_bytes: most,
    })
}

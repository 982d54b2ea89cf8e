//! A buffer's descriptor in other hands: another process's, a program's that knows only dma-buf, and what the kernel says
//! of it in its own lists.

use super::lifetime::comes_to;
use super::questions::{example, run};
use super::sharing::{numbered, shows};
use crate::check::{elsewhere, refused, Failure, Outcome};
use crate::session::{Refused, Session, KINDS};
use crate::sys::{become_user, fork, until, Ending, Map, PAGE, PRIVATE, RW, SHARED};
use crate::{check, check_eq};
use mapbuf_abi::{Kind, Operation, Reason};
use rustix::net::{
    recvmsg, sendmsg, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use std::fs::{self, File};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

tests! { "handover":
    STOCK, 60: [
        descriptor_over_a_socket_outlives_its_sender,
        program_that_knows_only_dma_buf_uses_every_kind,
    ];
    STOCK, 20: [
        kernel_lists_show_the_name,
        name_of_a_dma_buf_follows_the_buffer,
        refused_mapping_of_a_descriptor_has_its_reason,
    ];
}

fn send(socket: &UnixStream, file: &File) -> Outcome {
    let files = [file.as_fd()];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    check!(
        control.push(SendAncillaryMessage::ScmRights(&files)),
        "no room for a descriptor"
    );
    let sent = sendmsg(
        socket,
        &[IoSlice::new(b"x")],
        &mut control,
        SendFlags::empty(),
    );
    check_eq!(sent, Ok(1), "bytes sent");
    Ok(())
}

fn receive(socket: &UnixStream) -> Outcome<File> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let mut byte = [0];
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    );
    check_eq!(received.map(|message| message.bytes), Ok(1), "bytes");
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut files) = message {
            if let Some(file) = files.next() {
                return Ok(file.into());
            }
        }
    }
    Err(Failure::new("no descriptor came"))
}

// fs/file_table.c: a file lives by its references, and the one in a message is one (net/core/scm.c, `scm_fp_copy`).
fn descriptor_over_a_socket_outlives_its_sender() -> Outcome {
    for kind in KINDS {
        // Whether it is taken before or after the sender's end.
        for early in [true, false] {
            let (ours, theirs) = UnixStream::pair()?;
            let child = fork(|| {
                let give = || -> Outcome {
                    let session = Session::open()?;
                    let (buffer, _map) = numbered(&session, kind, 24)?;
                    send(&theirs, &session.export(buffer.id)?)?;
                    // The buffer is still there in every way when it is killed.
                    loop {
                        std::thread::sleep(Duration::from_secs(1));
                    }
                };
                i32::from(give().is_err())
            })?;
            let session = Session::open()?;
            let taken = if early { Some(receive(&ours)?) } else { None };
            comes_to(&session, 1, 24 * PAGE)?;
            if !early {
                // It is in the socket when the bytes are.
                let mut byte = [0];
                let there = until(Duration::from_secs(20), || {
                    let peeked = rustix::net::recv(&ours, &mut byte, RecvFlags::PEEK);
                    peeked.is_ok_and(|(count, _)| count == 1)
                });
                check!(there, "nothing comes");
            }
            child.kill(libc::SIGKILL);
            check_eq!(
                child.wait(),
                Ending::Signalled(libc::SIGKILL),
                "{kind:?}, the sender's end"
            );
            drop(theirs);
            let dma_buf = match taken {
                Some(dma_buf) => dma_buf,
                None => receive(&ours)?,
            };
            comes_to(&session, 1, 24 * PAGE)?;
            let map = Map::new(&dma_buf, 24 * PAGE, RW, SHARED, 0)?;
            shows(&map, 0, 24, 0)?;
            map.set_u64(23 * PAGE + 8, 7);
            drop(dma_buf);
            check_eq!(map.u64(23 * PAGE + 8), 7, "{kind:?}, a word");
            comes_to(&session, 1, 24 * PAGE)?;
            drop(map);
            comes_to(&session, 0, 0)?;
        }
    }
    // One that nobody takes goes with the socket.
    let (ours, theirs) = UnixStream::pair()?;
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Pages, PAGE)?;
    send(&theirs, &session.export(buffer.id)?)?;
    session.free(buffer.id)?;
    comes_to(&session, 1, PAGE)?;
    drop((ours, theirs));
    comes_to(&session, 0, 0)
}

fn program_that_knows_only_dma_buf_uses_every_kind() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let socket = format!("/tmp/handover-{}", kind.name());
        let mut user = example("dma-buf")?;
        user.arg(&socket).stdout(std::process::Stdio::piped());
        let user = user.spawn()?;
        let mut share = example("share")?;
        share.args([kind.name(), &socket]);
        let said = run(share)?;
        check!(said.contains("gave 65536 bytes"), "{said}");
        let output = user.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        check!(output.status.success(), "{kind:?}: {said}");
        for part in [
            "the sender has ended; 65536 bytes are mapped",
            &format!("/dmabuf:mapbuf {}", kind.name()),
            "all 16384 words read, inverted, and read again",
        ] {
            check!(said.contains(part), "{kind:?}: no `{part}` in {said}");
        }
        fs::remove_file(&socket)?;
        comes_to(&session, 0, 0)?;
    }
    Ok(())
}

/// The value of a field in `/proc/self/fdinfo`.
fn field(file: &File, name: &str) -> Outcome<Option<String>> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    let prefix = format!("{name}:");
    let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
    Ok(value.map(|value| value.trim().to_owned()))
}

/// The words of a dma-buf's line in the kernel's list: size, flags, mode, count, exporter, inode, name
/// (drivers/dma-buf/dma-buf.c, `dma_buf_debug_show`).
fn listed(file: &File) -> Outcome<Vec<String>> {
    use std::os::unix::fs::MetadataExt;
    let list = fs::read_to_string("/sys/kernel/debug/dma_buf/bufinfo")?;
    let inode = format!("{:08}", file.metadata()?.ino());
    list.lines()
        .map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>())
        .find(|words| words.get(5) == Some(&inode))
        .ok_or_else(|| Failure::new(format!("no inode {inode} in {list}")))
}

fn kernel_lists_show_the_name() -> Outcome {
    let session = Session::open()?;
    for kind in KINDS {
        let buffer = session.alloc(kind, 5 * PAGE)?;
        let dma_buf = session.export(buffer.id)?;
        let name = format!("mapbuf {}", kind.name());
        let words = listed(&dma_buf)?;
        check_eq!(words[0], "00020480", "size in bufinfo");
        check_eq!(words[4], "mapbuf", "exporter in bufinfo");
        check_eq!(words[6], name, "name in bufinfo");
        check_eq!(field(&dma_buf, "name")?, Some(name.clone()), "in fdinfo");
        check_eq!(
            field(&dma_buf, "exp_name")?.as_deref(),
            Some("mapbuf"),
            "exporter in fdinfo"
        );
        check_eq!(
            field(&dma_buf, "size")?.as_deref(),
            Some("20480"),
            "size in fdinfo"
        );
        // What lsof reads: `dmabuffs_dname`.
        let link = fs::read_link(format!("/proc/self/fd/{}", dma_buf.as_raw_fd()))?;
        check_eq!(
            link.to_string_lossy(),
            format!("/dmabuf:{name}"),
            "the link in /proc/self/fd"
        );
    }
    Ok(())
}

fn name_of_a_dma_buf_follows_the_buffer() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Vmalloc, PAGE)?;
    let dma_buf = session.export(buffer.id)?;
    let named = |name: &str| -> Outcome {
        check_eq!(field(&dma_buf, "name")?.as_deref(), Some(name), "fdinfo");
        check_eq!(listed(&dma_buf)?[6], name, "bufinfo");
        Ok(())
    };
    session.name(buffer.id, "ring-of-bytes", 0o600)?;
    let result = named("mapbuf ring-of-bytes");
    session.unname("ring-of-bytes")?;
    result?;
    // Somebody else may have that name by now.
    named("mapbuf vmalloc")?;
    // 32 bytes are the longest that a dma-buf has (DMA_BUF_NAME_LEN), with the zero.
    let long = "a".repeat(64);
    session.name(buffer.id, &long, 0o600)?;
    let result = named(&format!("mapbuf {}", &long[..24]));
    session.unname(&long)?;
    result?;
    Ok(())
}

// A mapping of a dma-buf's own descriptor has no open file of ours that could be asked; `LAST_ERROR` knows it by the thread.
fn refused_mapping_of_a_descriptor_has_its_reason() -> Outcome {
    let session = Session::open()?;
    let buffer = session.alloc(Kind::Coherent, PAGE)?;
    let dma_buf = session.export(buffer.id)?;
    elsewhere(|| {
        become_user(1000, 1000)?;
        check_eq!(session.of_dma_bufs()?.sequence, 0, "refusals before");
        let mapped = Map::new(&dma_buf, PAGE, RW, PRIVATE, 0);
        let said = Some(session.of_dma_bufs()?);
        refused(
            mapped.map_err(|errno| Refused { errno, said }),
            Operation::Mmap,
            Reason::CowShowsAddress,
            &[],
        )?;
        // The session itself was asked for nothing.
        check_eq!(session.last_error()?.sequence, 0, "refusals of the session");
        // A refusal by the node is the node's, not this one's.
        let by_node = session.map(PAGE, RW, PRIVATE, buffer.mmap_offset);
        refused(by_node, Operation::Mmap, Reason::CowShowsAddress, &[])?;
        let again = session.of_dma_bufs()?.sequence;
        check_eq!(
            Some(again),
            said.map(|said| said.sequence),
            "refusals after"
        );
        Ok(())
    })
}

//! `mapbuf explain`

mod signs;

use crate::{
    diagnose::name_of,
    failure::Failure,
    output::{self, OutputArgs},
};
use anstyle::Style;
use clap::Args as Group;
use mapbuf::{errno_name, CoreRefusal, Reason};
use serde::Serialize;
use std::fmt;

/// Explain a reason, and what to do about it
///
/// Every refusal by the driver carries a reason with a number and a name. Without an argument, lists all of them.
#[derive(Debug, Group)]
#[command(after_long_help = "Examples:
  mapbuf explain CowNeedsContiguous
  mapbuf explain 305
  mapbuf explain EINVAL")]
pub struct ExplainArgs {
    /// A reason's name or number; 'core' for everything that the kernel's memory manager refuses by itself; or an error
    /// or signal (EINVAL, 524, SIGBUS, …) for its causes, with any driver
    pub reason: Option<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Serialize)]
struct Explained {
    reasons: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    /// Absent for what the kernel's memory manager refuses by itself.
    number: Option<u32>,
    name: &'static str,
    errno: Option<&'static str>,
    sentence: String,
    remedy: &'static str,
    /// The place in the kernel that forces it; empty if there is none.
    kernel: &'static str,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bold = Style::new().bold();
        for entry in &self.reasons {
            let Entry {
                number,
                name,
                sentence,
                remedy,
                kernel,
                ..
            } = entry;
            let number = match number {
                Some(number) => number.to_string(),
                None => "from the kernel's core".to_owned(),
            };
            writeln!(
                f,
                "{bold}{name}{bold:#} ({number}, {})",
                entry.errno.unwrap_or("?")
            )?;
            writeln!(f, "  what  {sentence}")?;
            writeln!(f, "  next  {remedy}")?;
            if !kernel.is_empty() {
                writeln!(f, "  kernel  {kernel}")?;
            }
        }
        Ok(())
    }
}

pub fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let text = args.reason.as_deref();
    let name = text.and_then(error_of_number);
    let sign = name.as_deref().or(text);
    if let Some(signs) = sign.and_then(signs::Signs::of) {
        return output::answer(args.output, &signs);
    }
    let mut reasons: Vec<Entry> = Reason::ALL
        .iter()
        .filter(|reason| args.reason.as_deref().is_none_or(|text| is(**reason, text)))
        .map(|reason| Entry {
            number: Some(reason.number()),
            name: reason.name(),
            errno: errno_name(reason.errno()),
            sentence: without_forms(reason.text().sentence),
            remedy: reason.text().remedy,
            kernel: reason.text().kernel,
        })
        .collect();
    let core = core_refusals().into_iter();
    reasons.extend(core.filter(|entry| {
        args.reason
            .as_deref()
            .is_none_or(|text| text == "core" || entry.name.eq_ignore_ascii_case(text))
    }));
    if reasons.is_empty() {
        let text = args.reason.as_deref().unwrap_or_default();
        return Err(Failure::Usage(format!(
            "there is no reason '{text}'; 'mapbuf explain' lists them all. Known errors and signals: {}",
            signs::Signs::known()
        )));
    }
    output::answer(args.output, &Explained { reasons })
}

/// The name of an error that is given as a number, or as what perror prints of one that it does not know.
fn error_of_number(text: &str) -> Option<String> {
    if Reason::ALL.iter().any(|reason| is(*reason, text)) {
        return None;
    }
    let number = text.strip_prefix("Unknown error ").unwrap_or(text);
    let number: i64 = number.trim_start_matches('-').parse().ok()?;
    let name = name_of(-number);
    let name = name.trim_start_matches('-');
    name.starts_with('E').then(|| name.to_owned())
}

/// The refusals that the memory manager makes without asking the driver.
fn core_refusals() -> Vec<Entry> {
    let (offset, len, size, page_size, from, to) = (0, 0, 0, 0, 0, 0);
    let entry = |refusal: CoreRefusal, name, errno, sentence: &str, kernel| Entry {
        number: None,
        name,
        errno: Some(errno),
        sentence: sentence.to_owned(),
        remedy: refusal.remedy(),
        kernel,
    };
    vec![
        entry(
            CoreRefusal::ZeroLength,
            "ZeroLength",
            "EINVAL",
            "a mapping of 0 bytes was requested",
            "mm/mmap.c, do_mmap: EINVAL for a length of 0",
        ),
        entry(
            CoreRefusal::UnalignedOffset { offset, page_size },
            "UnalignedOffset",
            "EINVAL",
            "the offset is not a multiple of the page size",
            "arch/x86/kernel/sys_x86_64.c, mmap: EINVAL for an offset within a page",
        ),
        entry(
            CoreRefusal::OffsetWraps { offset, len },
            "OffsetWraps",
            "EOVERFLOW",
            "offset plus length exceeds the largest possible offset",
            "mm/mmap.c, do_mmap: EOVERFLOW",
        ),
        entry(
            CoreRefusal::SharedWriteOfReadOnlyOpen,
            "SharedWriteOfReadOnlyOpen",
            "EACCES",
            "a shared writable mapping was requested, and the file was opened read-only",
            "mm/mmap.c, do_mmap: EACCES without FMODE_WRITE",
        ),
        entry(
            CoreRefusal::NoAddressSpace { len },
            "NoAddressSpace",
            "ENOMEM",
            "the process's address space has no room for this many more bytes",
            "mm/mmap.c, do_mmap: ENOMEM at vm.max_map_count; mm/mmap.c, may_expand_vm: at RLIMIT_AS",
        ),
        entry(
            CoreRefusal::NoRoomForCopies { len },
            "NoRoomForCopies",
            "ENOMEM",
            "a private writable mapping may need a copy of every page, which exceeds the kernel's overcommit limit (or the \
             address space has no room)",
            "mm/vma.c, __mmap_setup: ENOMEM from security_vm_enough_memory_mm for what accountable_mapping names",
        ),
        entry(
            CoreRefusal::LockLimit { len },
            "LockLimit",
            "EAGAIN",
            "this many more bytes would exceed the process's limit on locked memory",
            "mm/mmap.c, do_mmap: EAGAIN at RLIMIT_MEMLOCK, after mlockall(MCL_FUTURE)",
        ),
        entry(
            CoreRefusal::BeyondExport { offset, len, size },
            "BeyondExport",
            "EINVAL",
            "the mapping would run past the end of the dma-buf",
            "drivers/dma-buf/dma-buf.c, dma_buf_mmap_internal: EINVAL",
        ),
        entry(
            CoreRefusal::NeverWritable,
            "NeverWritable",
            "EACCES",
            "mprotect(PROT_WRITE) of a mapping that can never become writable",
            "mm/mprotect.c, do_mprotect_pkey: EACCES if VM_MAYWRITE is cleared",
        ),
        entry(
            CoreRefusal::NoGrowth { from, to },
            "NoGrowth",
            "EFAULT",
            "mremap was asked to grow the mapping of a buffer",
            "mm/mremap.c: EFAULT for VM_DONTEXPAND",
        ),
        entry(
            CoreRefusal::NoPages,
            "NoPages",
            "EFAULT",
            "a file opened with O_DIRECT was to take the bytes of a mapping by page frame, or put them there",
            "mm/gup.c, check_vma_flags: EFAULT for VM_IO and VM_PFNMAP",
        ),
    ]
}

fn is(reason: Reason, text: &str) -> bool {
    reason.name().eq_ignore_ascii_case(text) || text.parse() == Ok(reason.number())
}

/// The sentence with `<0>` for its first operand, and so on.
fn without_forms(sentence: &str) -> String {
    let mut out = String::new();
    let mut rest = sentence;
    while let Some((before, after)) = rest.split_once('{') {
        let (field, after) = after.split_once('}').unwrap_or((after, ""));
        let (index, form) = field.split_once(':').unwrap_or((field, ""));
        let index = index.parse::<u32>().map_or(0, |index| index + 1);
        out += before;
        out += &match form {
            "" => format!("<{index}>"),
            form => format!("<{index}: {form}>"),
        };
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found() {
        assert!(is(Reason::CowNeedsContiguous, "cowneedscontiguous"));
        assert!(is(Reason::CowNeedsContiguous, "305"));
        assert!(!is(Reason::CowNeedsContiguous, "306"));
    }

    #[test]
    fn the_kernels_own_refusals_have_a_place_each() {
        for entry in core_refusals() {
            assert!(entry.kernel.contains(".c"), "{}", entry.name);
            assert!(Reason::ALL.iter().all(|reason| reason.name() != entry.name));
        }
    }

    #[test]
    fn errors_are_known_by_number() {
        assert_eq!(error_of_number("22").as_deref(), Some("EINVAL"));
        assert_eq!(error_of_number("-22").as_deref(), Some("EINVAL"));
        let named = error_of_number("Unknown error 524");
        assert_eq!(named.as_deref(), Some("ENOTSUPP"));
        assert_eq!(error_of_number("305"), None);
        assert_eq!(error_of_number("9999999999"), None);
        assert_eq!(error_of_number("EINVAL"), None);
    }

    #[test]
    fn operands_have_places() {
        assert_eq!(without_forms("{0:bytes} of {1}"), "<1: bytes> of <2>");
    }
}

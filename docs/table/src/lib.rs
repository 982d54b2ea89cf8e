//! The table of rules as the guide's page asks it: numbers in, a line of JSON out.
//!
//! The rules are those of the driver (`policy/src/plan.rs`), and so are the sentences (`abi/src/explain.rs`). What is
//! added here is memory of each kind as a machine with enough of it gives it (`memory::Memory`), and the names that a
//! person needs to go on: the kernel's function, the example, the commands. Compiled for the page by
//! `xtask/src/docs/table.rs`, and natively by the tests.

#![no_std]
#![deny(unsafe_code)]

mod json;
mod memory;
pub mod page;

use json::Json;
pub use json::Text;
use mapbuf_abi::reason::Refusal;
use mapbuf_abi::{Cache, Kind, Method};
use mapbuf_policy::plan::{decide, Layout, Plan, Request, Sharing, Way};
use mapbuf_policy::request::available;
use memory::Memory;

/// A cell of the table, as the page names it.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The kind of memory.
    pub kind: Kind,
    /// Its cache mode.
    pub cache: Cache,
    /// How it is to be mapped.
    pub method: Method,
    /// Shared or private.
    pub sharing: Sharing,
    /// Pages in the buffer, at least 1.
    pub size: u64,
    /// First page that is mapped.
    pub page: u64,
    /// Pages that are mapped.
    pub pages: u64,
    /// With CAP_SYS_ADMIN.
    pub admin: bool,
    /// The region is a device's, not memory.
    pub device: bool,
}

/// What the driver would answer.
///
/// # Errors
///
/// The refusal: of the allocation, where there is no such memory, or of the mapping.
pub fn ask(question: &Question) -> Result<Plan, Refusal> {
    // A region is declared when the module is loaded, not allocated.
    if question.kind != Kind::Region {
        available(question.kind, question.cache)?;
    }
    let request = Request {
        method: question.method,
        page: question.page,
        pages: question.pages,
        sharing: question.sharing,
        exec: false,
        write: question.sharing != Sharing::PrivateReadOnly,
        admin: question.admin,
        lined_up: true,
    };
    decide(&Memory::new(question), &request)
}

/// How many physically contiguous runs the memory has that is asked about.
pub fn runs(question: &Question) -> u64 {
    mapbuf_policy::plan::runs(&Memory::new(question), 0, question.size)
}

/// The kernel's function, and the example driver that shows it.
const fn place(way: Way) -> (&'static str, &'static str) {
    match way {
        Way::Remap => ("remap_pfn_range", "remap_pfn_range"),
        Way::RemapEach => ("remap_pfn_range, page by page", "maps0"),
        Way::Insert => ("vm_insert_pages", "vm_insert_pages"),
        Way::MapPages => ("vm_map_pages", "vm_map_pages"),
        Way::Vmalloc => ("remap_vmalloc_range", "remap_vmalloc_range"),
        Way::Dma => ("dma_mmap_coherent", "dma_mmap_coherent"),
        Way::Iomap => ("vm_iomap_memory", "vm_iomap_memory"),
        Way::IoRemap => ("io_remap_pfn_range", "io_remap_pfn_range"),
        Way::FaultPage => ("vm_operations_struct.fault, with the page", "fault_page"),
        Way::FaultAround => (
            "vm_operations_struct.fault, with vm_insert_pages for the pages around",
            "fault_page",
        ),
        Way::FaultPfn => (
            "vm_operations_struct.fault, with vmf_insert_pfn",
            "fault_pfn",
        ),
        Way::FaultHugeFolio => (
            "vm_operations_struct.huge_fault, with vmf_insert_folio_pmd",
            "fault_huge",
        ),
        Way::FaultHugePfn => (
            "vm_operations_struct.huge_fault, with vmf_insert_pfn_pmd",
            "fault_huge",
        ),
        Way::RemapAndHuge => (
            "vm_operations_struct.huge_fault, with vmf_insert_pfn_pmd, and remap_pfn_range for the ends",
            "fault_huge",
        ),
    }
}

/// The answer as the page takes it.
fn answer(question: &Question, out: &mut Text) {
    let mut json = Json::begin(out);
    match ask(question) {
        Ok(plan) => {
            let (function, example) = place(plan.way);
            json.bool("maps", true);
            json.bool("sealed", plan.seal);
            json.text("method", plan.method().name());
            json.text("function", function);
            json.text("example", example);
        }
        Err(refusal) => {
            let text = refusal.reason.text();
            json.bool("maps", false);
            json.text("reason", refusal.reason.name());
            json.number("number", u64::from(refusal.reason.number()));
            json.number("errno", u64::from(refusal.reason.errno().unsigned_abs()));
            json.shown("sentence", &refusal);
            json.text("remedy", text.remedy);
            json.text("kernel", text.kernel);
        }
    }
    json.number("runs", runs(question));
    json.bool("paged", Memory::new(question).facts().paged);
    json.end();
}

/// What the lists of the page offer, each in the order of its numbers.
fn lists(out: &mut Text) {
    let mut json = Json::begin(out);
    json.list(
        "kind",
        Kind::own().iter().map(|it| (it.number(), it.name())),
    );
    json.list(
        "cache",
        Cache::ALL.iter().map(|it| (it.number(), it.name())),
    );
    json.list(
        "method",
        Method::ALL.iter().map(|it| (it.number(), it.name())),
    );
    let sharings = [
        (0, "shared"),
        (1, "private, read-only"),
        (2, "private, writable"),
    ];
    json.list("sharing", sharings.into_iter());
    json.end();
}

#[cfg(target_arch = "wasm32")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::format;
    use std::string::String;

    fn said(question: &Question) -> String {
        let mut out = Text::default();
        answer(question, &mut out);
        String::from_utf8(out.bytes().to_vec()).unwrap()
    }

    const LAB: Question = Question {
        kind: Kind::Vmalloc,
        cache: Cache::Cached,
        method: Method::RemapEach,
        sharing: Sharing::PrivateWritable,
        size: 16,
        page: 0,
        pages: 16,
        admin: false,
        device: false,
    };

    #[test]
    fn question_b_is_refused_with_its_reason_and_the_kernels() {
        let text = said(&LAB);
        assert!(text.contains(r#""reason":"CowNeedsContiguous""#), "{text}");
        assert!(text.contains("get_remap_pgoff"), "{text}");
        let shared = said(&Question {
            sharing: Sharing::Shared,
            ..LAB
        });
        assert!(shared.contains(r#""example":"maps0""#), "{shared}");
    }

    /// No answer is longer than there is room for, and every one is whole.
    #[test]
    fn every_answer_fits() {
        for &kind in Kind::own() {
            for &cache in Cache::ALL {
                for &method in Method::ALL {
                    for &sharing in Sharing::ALL {
                        for (size, page, pages) in
                            [(16, 0, 16), (1024, 0, 1024), (1024, 256, 768), (16, 9, 9)]
                        {
                            for device in [false, true] {
                                let question = Question {
                                    kind,
                                    cache,
                                    method,
                                    sharing,
                                    size,
                                    page,
                                    pages,
                                    admin: false,
                                    device,
                                };
                                let text = said(&question);
                                assert!(text.ends_with('}'), "{question:?}: {text}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_that_name_nothing_are_refused() {
        use page::{table, text_length};
        assert_eq!(table(99, 0, 0, 0, 1, 0, 1, 0), 0);
        assert_eq!(table(1, 0, 0, 7, 1, 0, 1, 0), 0);
        assert_eq!(table(1, 0, 0, 0, 1, 0, 1, 0), 1);
        let length = text_length();
        assert!(
            length > 0 && length < json::CAPACITY,
            "{}",
            format!("{length}")
        );
    }
}

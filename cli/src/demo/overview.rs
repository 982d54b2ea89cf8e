//! Every way to map: what it is for, what it needs, how it fails, each tried here and now.

use super::scene::{self, Demo};
use crate::matrix::{self, Outcome};
use mapbuf::{Kind, Method, Reason};

/// A method, the kernel function that does it, and what to know of it.
const METHODS: &[(Method, &str, &str)] = &[
    (
        Method::Auto,
        "-",
        "the best one: by faults where there are pages, else by one call",
    ),
    (
        Method::Remap,
        "remap_pfn_range",
        "one physical run, by frame, at once; its pages cannot be pinned",
    ),
    (
        Method::RemapEach,
        "remap_pfn_range",
        "the same page by page; private and writable it is EINVAL",
    ),
    (
        Method::Insert,
        "vm_insert_pages",
        "pages with a reference count, at once; they can be pinned",
    ),
    (
        Method::MapPages,
        "vm_map_pages",
        "the same for the whole object, from vm_pgoff on",
    ),
    (
        Method::Vmalloc,
        "remap_vmalloc_range",
        "vmalloc'd memory that was made for it (VM_USERMAP)",
    ),
    (
        Method::Dma,
        "dma_mmap_coherent",
        "what dma_alloc_coherent gave, with the protection it needs",
    ),
    (
        Method::Iomap,
        "vm_iomap_memory",
        "a physical range; looks at offset and length by itself",
    ),
    (
        Method::IoRemap,
        "io_remap_pfn_range",
        "a device's range: remap_pfn_range with that device's protection",
    ),
    (
        Method::FaultPage,
        "finish_fault",
        "a page when it is touched; huge entries for huge folios",
    ),
    (
        Method::FaultPfn,
        "vmf_insert_pfn",
        "a frame when it is touched; never private and writable",
    ),
    (
        Method::FaultHuge,
        "vmf_insert_folio_pmd",
        "2 MiB at a touch, where memory and address line up",
    ),
];

pub fn scene(demo: &mut Demo) -> scene::Outcome {
    let Some(seen) = matrix::overview()? else {
        demo.not_yet("A12", "only root can see where memory lies: run it as root");
        return Ok(());
    };
    for (method, function, about) in METHODS {
        let of_method = |outcome: &&Outcome| outcome.method == *method;
        let maps = |kind: &Kind| {
            let of_kind = |outcome: &&Outcome| outcome.kind == *kind && outcome.maps;
            seen.outcomes
                .iter()
                .filter(of_method)
                .any(|outcome| of_kind(&outcome))
        };
        let kinds: Vec<_> = Kind::own()
            .iter()
            .filter(|kind| maps(kind))
            .map(|kind| kind.name())
            .collect();
        demo.stage.line(&format!(
            "{:11} {function:20} {}",
            method.name(),
            kinds.join(" ")
        ));
        demo.stage.line(&format!("{:11} {about}", ""));
        let mut reasons: Vec<Reason> = seen
            .outcomes
            .iter()
            .filter(of_method)
            .filter_map(|outcome| outcome.reason)
            // Not about the method.
            .filter(|reason| !matches!(reason, Reason::BeyondEnd | Reason::RegionUnbacked))
            .collect();
        reasons.sort_unstable();
        reasons.dedup();
        let names: Vec<_> = reasons.iter().map(|reason| reason.name()).collect();
        for line in names.chunks(3) {
            demo.stage
                .line(&format!("{:11} refused: {}", "", line.join(", ")));
        }
    }
    demo.stage.line("");
    let text = format!(
        "{} ways tried: {} map, {} are refused with the table's reason",
        seen.outcomes.len(),
        seen.outcomes.iter().filter(|outcome| outcome.maps).count(),
        seen.outcomes
            .iter()
            .filter(|outcome| outcome.reason.is_some())
            .count()
    );
    demo.check(&["A12"], seen.differ == 0, &text);
    if let Some(error) = &seen.left_out {
        demo.not_yet("A12", &format!("not all memory could be tried: {error}"));
        return Ok(());
    }
    let every = METHODS.iter().all(|(method, ..)| {
        seen.outcomes
            .iter()
            .any(|outcome| outcome.method == *method && outcome.maps)
    });
    demo.check(&["A12"], every, "every method maps something here");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_here_and_fits_a_line() {
        assert_eq!(METHODS.len(), Method::ALL.len());
        for (method, function, about) in METHODS {
            assert!(about.len() <= 66, "{method:?}: {} characters", about.len());
            assert!(function.len() <= 20, "{function}");
        }
    }
}

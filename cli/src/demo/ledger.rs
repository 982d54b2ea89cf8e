//! What was seen of each requirement.

use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// The requirements of the two questions, in their order, and those of devices.
const REQUIREMENTS: &[(&str, &str)] = &[
    ("A1", "a char device whose node appears by itself"),
    ("A2", "the user asks for the size"),
    (
        "A3",
        "an ALLOC ioctl with id and flags, every argument checked",
    ),
    ("A4", "mmap finds the buffer by the id in the offset"),
    ("A5", "remap_pfn_range with an uncached page protection"),
    ("A6", "DMA-coherent memory mapped"),
    ("A7", "contiguous kernel memory mapped"),
    ("A8", "a reserved physical range: both views agree"),
    (
        "A9",
        "a range that nothing answers is detected and reported",
    ),
    ("A10", "the buffer is freed at any time without harm"),
    ("A11", "a small program maps, writes, reads and checks"),
    ("A12", "the overview of every way to map"),
    ("B1", "vmalloc'd, scattered memory mapped page by page"),
    ("B2", "dd cc bb aa reads as 0xaabbccdd in each page"),
    ("B3", "the mapping outlives close"),
    ("B4", "a read-only open maps PROT_READ, MAP_PRIVATE"),
    ("B5", "three ways out work; the failing case fails in mmap"),
    ("B6", "the fault handler works"),
    ("B7", "refusals happen in mmap and leave nothing behind"),
    ("B8", "everything is released at unload"),
    ("D1", "a PCI device bound and unbound"),
    ("D2", "coherent memory for a device, its mask kept"),
    ("D3", "behind an IOMMU a DMA address is not a physical one"),
    ("D4", "DMA both ways"),
    ("D5", "a stray DMA is stopped and reported"),
    ("D6", "a BAR mapped, and the device answers"),
    ("D7", "an interrupt arrives on a descriptor"),
    ("D8", "exactly the bytes named are synced"),
    ("D9", "unplugged with all alive"),
    ("D10", "an NVMe block read and written"),
    ("D11", "a program that knows only dma-heap, unchanged"),
    (
        "D12",
        "a foreign dma-buf imported, and reached by the device",
    ),
];

/// The requirement with this number, if there is one.
pub fn known(id: &str) -> Option<&'static str> {
    REQUIREMENTS
        .iter()
        .map(|(known, _)| *known)
        .find(|known| *known == id)
}

/// How a requirement stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Verdict {
    /// Every check that ran held.
    #[serde(rename = "pass")]
    Pass,
    /// A check did not hold.
    #[serde(rename = "fail")]
    Fail,
    /// No check of it ran, or not all that it takes can run yet.
    #[serde(rename = "not yet")]
    NotYet,
}

/// A requirement, how it stands, and why it does not pass.
pub struct Row<'a> {
    pub id: &'static str,
    pub text: &'static str,
    pub verdict: Verdict,
    pub why: Option<&'a str>,
}

/// What was seen of each requirement.
#[derive(Debug, Default)]
pub struct Ledger {
    seen: BTreeMap<&'static str, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    checks: usize,
    failed: Option<String>,
    put_off: Option<String>,
}

impl Ledger {
    /// Enters the outcome of a check.
    pub fn enter(&mut self, id: &'static str, held: bool, what: &str) {
        debug_assert!(known(id).is_some());
        let seen = self.seen.entry(id).or_default();
        seen.checks += 1;
        if !held && seen.failed.is_none() {
            seen.failed = Some(what.to_owned());
        }
    }

    /// Enters that not all of it can be checked yet.
    pub fn put_off(&mut self, id: &'static str, why: &str) {
        self.seen.entry(id).or_default().put_off = Some(why.to_owned());
    }

    /// All requirements, in their order.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        REQUIREMENTS.iter().map(|&(id, text)| {
            let seen = self.seen.get(id);
            let (verdict, why) = match seen {
                Some(Seen {
                    failed: Some(why), ..
                }) => (Verdict::Fail, Some(why.as_str())),
                Some(Seen {
                    put_off: Some(why), ..
                }) => (Verdict::NotYet, Some(why.as_str())),
                Some(Seen { checks: 1.., .. }) => (Verdict::Pass, None),
                _ => (Verdict::NotYet, None),
            };
            Row {
                id,
                text,
                verdict,
                why,
            }
        })
    }

    /// The requirements that failed.
    pub fn failed(&self) -> Vec<String> {
        self.rows()
            .filter(|row| row.verdict == Verdict::Fail)
            .map(|row| row.id.to_owned())
            .collect()
    }
}

impl Serialize for Ledger {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.rows().map(|row| (row.id, row.verdict)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(ledger: &Ledger, id: &str) -> Verdict {
        ledger.rows().find(|row| row.id == id).unwrap().verdict
    }

    #[test]
    fn nothing_passes_unseen() {
        let mut ledger = Ledger::default();
        assert!(ledger.rows().all(|row| row.verdict == Verdict::NotYet));
        ledger.enter("A1", true, "");
        ledger.enter("A2", true, "");
        ledger.enter("A2", false, "wrong size");
        ledger.enter("A2", true, "");
        ledger.enter("B5", true, "");
        ledger.put_off("B5", "one way is left");
        assert_eq!(verdict(&ledger, "A1"), Verdict::Pass);
        assert_eq!(verdict(&ledger, "A2"), Verdict::Fail);
        assert_eq!(verdict(&ledger, "B5"), Verdict::NotYet);
        assert_eq!(ledger.failed(), ["A2"]);
    }

    #[test]
    fn json_is_one_word_for_each() {
        let json = serde_json::to_value(Ledger::default()).unwrap();
        let map = json.as_object().unwrap();
        assert_eq!(map.len(), REQUIREMENTS.len());
        assert!(map.values().all(|value| value == "not yet"));
    }
}

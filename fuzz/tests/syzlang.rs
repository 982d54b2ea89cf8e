//! `tests/dev_mapbuf.txt` says what `abi/` says: the same ioctls, numbers, fields and sizes, and every value of the
//! enumerations. Syzkaller itself is not needed.

use mapbuf_abi::{ioctl, Cache, Kind, Method, Operation};
use std::collections::BTreeMap;

const TEXT: &str = include_str!("../../tests/dev_mapbuf.txt");
const ABI: &str = include_str!("../../abi/src/wire.rs");

/// The numbers of the ioctls, by the name of the operation.
fn numbers() -> BTreeMap<&'static str, u32> {
    let all = [
        (Operation::Query, ioctl::QUERY),
        (Operation::Alloc, ioctl::ALLOC),
        (Operation::Free, ioctl::FREE),
        (Operation::Info, ioctl::INFO),
        (Operation::Segments, ioctl::SEGMENTS),
        (Operation::Offset, ioctl::OFFSET),
        (Operation::Export, ioctl::EXPORT),
        (Operation::LastError, ioctl::LAST_ERROR),
        (Operation::Name, ioctl::NAME),
        (Operation::Unname, ioctl::UNNAME),
        (Operation::Import, ioctl::IMPORT),
        (Operation::Probe, ioctl::PROBE),
        (Operation::Region, ioctl::REGION),
        (Operation::Sync, ioctl::SYNC),
        (Operation::Device, ioctl::DEVICE),
        (Operation::DmaMask, ioctl::DMA_MASK),
        (Operation::Attach, ioctl::ATTACH),
        (Operation::Detach, ioctl::DETACH),
        (Operation::Irq, ioctl::IRQ),
        (Operation::Config, ioctl::CONFIG),
        (Operation::Bar, ioctl::BAR),
    ];
    all.iter()
        .map(|(operation, number)| (operation.name(), *number))
        .collect()
}

/// The ioctls of the description: name, number, and the struct.
fn described() -> BTreeMap<&'static str, (u32, &'static str)> {
    let lines = TEXT.lines();
    let calls = lines.filter_map(|line| line.strip_prefix("ioctl$MAPBUF_"));
    calls
        .map(|call| {
            let (name, rest) = call.split_once('(').unwrap();
            let number = between(rest, "cmd const[0x", "]");
            let number = u32::from_str_radix(number, 16).unwrap();
            let kind = between(rest, "arg ptr[", "]");
            (name, (number, kind.split_once(", ").unwrap().1))
        })
        .collect()
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let text = text.split_once(start).unwrap().1;
    text.split_once(end).unwrap().0
}

/// The fields of a struct of the description: name and type.
fn fields(name: &str) -> Vec<(&'static str, &'static str)> {
    let start = format!("\n{name} {{\n");
    let body = TEXT
        .split_once(&start)
        .unwrap_or_else(|| panic!("no struct {name}"));
    let body = body.1.split_once("\n}").unwrap().0;
    let field = |line: &'static str| {
        let (field, rest) = line.trim().split_once('\t').unwrap();
        let kind = rest.trim().split("\t(").next().unwrap();
        (field, kind.trim())
    };
    body.lines().map(field).collect()
}

/// Bytes of a type of the description.
fn size(kind: &str) -> usize {
    if let Some(inner) = kind.strip_prefix("array[") {
        let (inner, count) = inner.trim_end_matches(']').rsplit_once(", ").unwrap();
        return size(inner) * count.parse::<usize>().unwrap();
    }
    match kind {
        _ if kind.starts_with("string[") => between(kind, ", ", "]").parse().unwrap(),
        "mapbuf_id" | "fd_mapbuf_dmabuf" => 4,
        "mapbuf_refused" => fields(kind).iter().map(|(_, kind)| size(kind)).sum(),
        _ if kind.starts_with("ptr64[") || kind == "mapbuf_offset" => 8,
        _ if kind.contains("int64") => 8,
        _ if kind.contains("int32") => 4,
        _ if kind.contains("int8") => 1,
        other => panic!("what is {other}?"),
    }
}

/// The names of the fields of a struct in `abi/`.
fn abi_fields(name: &str) -> Vec<&'static str> {
    let start = format!("pub struct {name} {{\n");
    let body = ABI
        .split_once(&start)
        .unwrap_or_else(|| panic!("no struct {name}"));
    let body = body.1.split_once("\n}").unwrap().0;
    let lines = body
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub "));
    lines.map(|line| line.split_once(':').unwrap().0).collect()
}

#[test]
fn every_ioctl_is_described_and_no_other() {
    let described = described();
    let numbers = numbers();
    assert_eq!(
        numbers.keys().collect::<Vec<_>>(),
        described.keys().collect::<Vec<_>>()
    );
    for (name, number) in &numbers {
        assert_eq!(described[name].0, *number, "{name}");
    }
    // An ioctl that comes to `abi/` must come here too.
    let module = between(ABI, "pub mod ioctl {", "\n}");
    assert_eq!(module.matches("pub const ").count(), numbers.len());
}

#[test]
fn structs_are_those_of_the_interface() {
    for (name, (number, kind)) in described() {
        // `_IOC_SIZE`
        let wanted = (number >> 16 & 0x3fff) as usize;
        let fields = fields(kind);
        let sum: usize = fields.iter().map(|(_, kind)| size(kind)).sum();
        assert_eq!(sum, wanted, "{name}: the size of {kind}");
        // LAST_ERROR is LastError.
        let words = name.split('_').map(|word| {
            let (first, rest) = word.split_at(1);
            format!("{first}{}", rest.to_lowercase())
        });
        let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, abi_fields(&words.collect::<String>()), "{name}");
    }
    let names: Vec<_> = fields("mapbuf_segment")
        .iter()
        .map(|field| field.0)
        .collect();
    assert_eq!(names, abi_fields("Segment"));
}

#[test]
fn every_kind_cache_mode_and_method_is_described() {
    let list = |name: &str| -> Vec<u32> {
        let line = between(TEXT, &format!("\n{name} = "), "\n");
        line.split(", ").map(|word| word.parse().unwrap()).collect()
    };
    let kinds: Vec<_> = Kind::ALL.iter().map(|kind| kind.number()).collect();
    assert_eq!(list("mapbuf_kinds"), kinds);
    let caches: Vec<_> = Cache::ALL.iter().map(|cache| cache.number()).collect();
    assert_eq!(list("mapbuf_caches"), caches);
    let methods: Vec<_> = Method::ALL.iter().map(|method| method.number()).collect();
    assert_eq!(list("mapbuf_methods"), methods);
}

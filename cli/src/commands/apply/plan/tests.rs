use super::*;
use crate::wanted;
use proptest::prelude::*;
use std::{fs, path::PathBuf};

const PAGE: u64 = 4096;

fn wanted(text: &str) -> Vec<Wanted> {
    wanted::understand(&[("a.toml".as_ref(), text)]).unwrap()
}

fn ring() -> There {
    There {
        name: "ring".into(),
        bytes: 8192,
        kind: Kind::Pages,
        cache: Cache::Cached,
        node: Some((0o660, 0, 7)),
        for_device: None,
    }
}

/// What is to be done about a buffer with these lines in its file, and what differs.
fn compared(lines: &str, there: Option<There>, replace: bool) -> (Action, Vec<&'static str>) {
    let wanted = wanted(&format!("[[buffer]]\nname = \"ring\"\n{lines}\n"));
    let there: Vec<_> = there.into_iter().collect();
    let plan = Plan::new(&wanted, &there, PAGE, replace);
    let row = plan.row(0).unwrap();
    assert_eq!(
        plan.impossible(&wanted).is_some(),
        row.action == Action::Impossible
    );
    let fields = row.differences.iter().map(|difference| difference.field);
    (row.action, fields.collect())
}

#[test]
fn what_is_missing_is_created() {
    let lines = "kind = \"pages\"\nsize = 5000";
    assert_eq!(compared(lines, None, false), (Action::Create, vec![]));
    let wanted = wanted(&format!(
        "[[buffer]]\nname = \"ring\"\n{lines}\nmode = \"0640\"\n"
    ));
    let plan = Plan::new(&wanted, &[], PAGE, false);
    let said = plan.to_string();
    assert!(
        said.contains("8 KiB of pages memory, cached, mode 0640"),
        "{said}"
    );
    assert_eq!(plan.changes(), 1);
}

#[test]
fn what_is_left_out_is_not_compared() {
    let lines = "kind = \"pages\"\nsize = \"5000\"";
    assert_eq!(compared(lines, Some(ring()), true), (Action::Keep, vec![]));
}

#[test]
fn nodes_change_and_memory_does_not() {
    let base = "kind = \"pages\"\nsize = \"8K\"\n";
    let with = |line: &str, replace| compared(&format!("{base}{line}"), Some(ring()), replace);
    assert_eq!(
        with("mode = \"0660\"\ngroup = 7\nowner = 0", false),
        (Action::Keep, vec![])
    );
    assert_eq!(
        with("mode = \"0640\"", false),
        (Action::Change, vec!["mode"])
    );
    assert_eq!(with("group = 8", false), (Action::Change, vec!["group"]));
    assert_eq!(with("owner = 8", false), (Action::Differs, vec!["owner"]));
    assert_eq!(
        with("cache = \"uncached\"", false),
        (Action::Differs, vec!["cache"])
    );
    assert_eq!(
        with("device = \"00:04.0\"", true),
        (Action::Replace, vec!["device"])
    );
    let other = "kind = \"vmalloc\"\nsize = \"16K\"\nmode = \"0600\"";
    let fields = vec!["kind", "size", "mode"];
    assert_eq!(
        compared(other, Some(ring()), false),
        (Action::Differs, fields.clone())
    );
    assert_eq!(
        compared(other, Some(ring()), true),
        (Action::Replace, fields)
    );
}

#[test]
fn a_region_is_not_made_here() {
    let region = || There {
        kind: Kind::Region,
        ..ring()
    };
    let lines = "kind = \"region\"\n";
    assert_eq!(compared(lines, None, true).0, Action::Impossible);
    assert_eq!(
        compared(lines, Some(region()), true),
        (Action::Keep, vec![])
    );
    let owned = format!("{lines}owner = 9\nmode = \"0600\"");
    let fields = vec!["mode", "owner"];
    assert_eq!(
        compared(&owned, Some(region()), true),
        (Action::Change, fields)
    );
    let larger = format!("{lines}size = \"1G\"");
    assert_eq!(
        compared(&larger, Some(region()), true),
        (Action::Impossible, vec!["size"])
    );
    assert_eq!(
        compared(lines, Some(ring()), true),
        (Action::Impossible, vec!["kind"])
    );
    let pages = "kind = \"pages\"\nsize = \"8K\"";
    assert_eq!(
        compared(pages, Some(region()), true),
        (Action::Impossible, vec!["kind"])
    );
}

#[test]
fn others_are_left_alone() {
    let other = |name: &str, kind| There {
        name: name.into(),
        kind,
        ..ring()
    };
    let there = [
        other("mine", Kind::Vmalloc),
        other("reserved", Kind::Region),
        ring(),
    ];
    let plan = Plan::new(
        &wanted("[[buffer]]\nname = \"ring\"\nkind = \"pages\"\nsize = 8192"),
        &there,
        PAGE,
        true,
    );
    assert_eq!(plan.left_alone, ["mine"]);
    assert_eq!(plan.changes(), 0);
    assert!(plan
        .to_string()
        .contains("left alone, since no file names them: mine"));
}

#[test]
fn the_example_of_the_package_is_right() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../dist/buffers.toml");
    // Its users and groups need not be on this machine.
    let text = fs::read_to_string(path)
        .unwrap()
        .replace("\"mapbuf\"", "\"root\"");
    let plan = Plan::new(&wanted(&text), &[], PAGE, false);
    assert!(plan.changes() >= 2, "{plan}");
}

proptest! {
    // What was made as a file says is kept, whatever the file leaves out.
    #[test]
    fn a_second_time_changes_nothing(
        size in 1_u64..1 << 40,
        kind in prop::sample::select(vec!["vmalloc", "pages", "contiguous", "coherent"]),
        mode in prop::option::of(0_u32..0o667),
        owner in prop::option::of(0_u32..70000),
        replace: bool,
    ) {
        let mode = mode.map(|mode| mode & 0o666);
        let mut text = format!("[[buffer]]\nname = \"ring\"\nkind = \"{kind}\"\nsize = {size}\n");
        if let Some(mode) = mode {
            text += &format!("mode = \"{mode:04o}\"\n");
        }
        if let Some(owner) = owner {
            text += &format!("owner = {owner}\n");
        }
        let made = There {
            bytes: size.next_multiple_of(PAGE),
            kind: Kind::from_name(kind).unwrap(),
            node: Some((mode.unwrap_or(0o660), owner.unwrap_or(0), 0)),
            ..ring()
        };
        let plan = Plan::new(&wanted(&text), &[made], PAGE, replace);
        prop_assert_eq!(plan.row(0).unwrap().action, Action::Keep);
    }
}

use super::*;
use proptest::prelude::*;

fn of(text: &str) -> Result<Vec<Wanted>, Vec<String>> {
    understand(&[(Path::new("a.toml"), text)])
        .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn mistake(text: &str, at: &str, words: &[&str]) {
    let said = of(text).unwrap_err().join("\n");
    let start = format!("a.toml:{at}: ");
    assert!(said.lines().any(|line| line.starts_with(&start)), "{said}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn a_file_has_every_field() {
    let text = r#"
        # Two buffers.
        [[buffer]]
        name = "ring"
        kind = "contiguous"
        size = "2M"
        owner = "root"
        group = 7
        mode = "0640"
        fill-pages = "ddccbbaa"
        cache = "write-combined"
        below = "4G"
        align = 65536
        boundary = "16M"
        numa-node = 0

        [[buffer]]
        name = "dma"
        size = 8192
        device = "00:04.0"
        numa-node = "device"
    "#;
    let wanted = of(text).unwrap();
    let ring = &wanted[0].entry;
    assert_eq!(wanted[0].place.to_string(), "a.toml:4:16");
    assert_eq!(ring.kind(), Some(Memory::Allocated(Kind::Contiguous)));
    assert_eq!(ring.size.unwrap().0 .0, 2 << 20);
    assert_eq!(
        (
            ring.owner.unwrap().0 .0,
            ring.group.unwrap().0 .0,
            ring.mode()
        ),
        (0, 7, 0o640)
    );
    assert_eq!(
        ring.fill_pages.as_ref().unwrap().0 .0,
        [0xdd, 0xcc, 0xbb, 0xaa]
    );
    assert_eq!(ring.align.unwrap().0 .0, 16);
    let dma = &wanted[1].entry;
    assert_eq!(dma.kind(), Some(Memory::Allocated(Kind::Pages)));
    assert_eq!(dma.device.as_ref().unwrap().0.to_string(), "0000:00:04.0");
    assert_eq!(dma.mode(), 0o660);
}

#[test]
fn mistakes_have_their_place_and_what_to_write() {
    let entry = |rest: &str| format!("[[buffer]]\nname = \"ring\"\n{rest}\n");
    mistake("[[buffer]\n", "1:10", &[]);
    mistake("[[bufer]]\n", "1:3", &["bufer", "buffer"]);
    mistake(&entry("knd = 1"), "3:1", &["unknown field", "kind"]);
    mistake(
        &entry("kind = \"velvet\""),
        "3:8",
        &["velvet", "contiguous"],
    );
    mistake(&entry("kind = 3"), "3:8", &["3", "contiguous"]);
    mistake(&entry("size = \"4Q\""), "3:8", &["'Q'", "use K, M"]);
    mistake(&entry("size = -1"), "3:8", &["-1", "a size"]);
    mistake(&entry("size = 1.5"), "3:8", &["1.5", "a size"]);
    mistake(&entry("mode = 640"), "3:8", &["640", "\"0640\""]);
    mistake(&entry("mode = \"0777\""), "3:8", &["0666"]);
    mistake(&entry("owner = \"no such user\""), "3:9", &["/etc/passwd"]);
    mistake(&entry("align = 3"), "3:9", &["power of 2"]);
    mistake(&entry("fill-pages = \"abc\""), "3:14", &["hexadecimal"]);
    mistake(
        &entry("size = \"4K\""),
        "1:1",
        &["'ring': its kind is missing"],
    );
    mistake(
        &entry("kind = \"pages\""),
        "1:1",
        &["'ring': its size is missing"],
    );
    mistake(
        &entry("kind = \"pages\"\nsize = 1\nnuma-node = \"device\""),
        "1:1",
        &["needs a device"],
    );
    mistake(
        &entry("kind = \"region\"\nbelow = 1"),
        "1:1",
        &["'below'", "remove the line"],
    );
    mistake(
        "[[buffer]]\nname = \"a/b\"\nkind = \"pages\"\nsize = 1",
        "2:8",
        &["a/b"],
    );
    mistake(
        "[[buffer]]\nname = \"é!\"  \nkind = \"pages\"\nsize = 1",
        "2:8",
        &[],
    );
    mistake(
        "[[buffer]]\nkind = \"pages\"\nsize = 1",
        "1:1",
        &["missing field `name`"],
    );
}

#[test]
fn every_mistake_of_every_file_is_told() {
    let bad = "[[buffer]]\nname = \"x\"\nkind = \"pages\"\n[[buffer]]\nname = \"\"\nkind = \"pages\"\nsize = 1\n";
    let twice = "[[buffer]]\nname = \"x\"\nkind = \"pages\"\nsize = 1\n";
    let mistakes = understand(&[
        (Path::new("a"), bad),
        (Path::new("b"), "?"),
        (Path::new("c"), twice),
    ])
    .unwrap_err();
    let said: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 4, "{said:#?}");
    assert!(
        said[0].starts_with("a:1:1: ") && said[1].starts_with("a:5:8: "),
        "{said:#?}"
    );
    assert!(said[2].starts_with("b:1:"), "{said:#?}");
    assert!(
        said[3].starts_with("c:2:8: ") && said[3].contains("a:2:8"),
        "{said:#?}"
    );
}

#[test]
fn columns_are_characters() {
    let text = "a\nß = x";
    assert_eq!(
        Place::new(Path::new("f"), text, text.find('x').unwrap()).column,
        5
    );
    assert_eq!(Place::new(Path::new("f"), text, 0).to_string(), "f:1:1");
}

#[test]
fn files_of_a_folder_are_in_order() {
    let folder = std::env::temp_dir().join(format!("mapbuf-wanted-{}", std::process::id()));
    assert!(files_of(&folder).unwrap().is_empty());
    fs::create_dir_all(&folder).unwrap();
    for name in ["b.toml", "a.toml", ".c.toml", "a.toml~", "README"] {
        fs::write(folder.join(name), "").unwrap();
    }
    let files = files_of(&folder).unwrap();
    assert_eq!(files, [folder.join("a.toml"), folder.join("b.toml")]);
    assert!(read(&files).unwrap().is_empty());
    fs::remove_dir_all(folder).unwrap();
}

proptest! {
    #[test]
    fn nothing_panics(text in any::<String>()) {
        let _ = of(&text);
        let _ = of(&format!("[[buffer]]\nname = {text}"));
    }

    #[test]
    fn what_passes_has_good_names(name in "[a-zA-Z0-9_./ -]{0,70}") {
        let text = format!("[[buffer]]\nname = \"{name}\"\nkind = \"pages\"\nsize = 1\n");
        let good = (1..=64).contains(&name.len())
            && !name.starts_with(['.', '-'])
            && !name.contains(['/', ' ']);
        prop_assert_eq!(of(&text).is_ok(), good);
    }
}

//! The command as scripts use it: answers, JSON and exit codes.
//!
//! Most of it needs the driver, and root; where there is none, those tests say so and pass. In the guest:
//!
//! ```text
//! cargo test -p mapbuf-cli --test command --no-run --target x86_64-unknown-linux-gnu --config \
//!     'target.x86_64-unknown-linux-gnu.rustflags=["-C", "target-feature=+crt-static"]'
//! cargo xtask vm --copy THAT-PROGRAM:/root/command -- /root/command
//! ```

use serde_json::Value;
use std::{
    env, fs,
    io::{BufRead, BufReader},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The tests share one driver, which some of them unload.
static DRIVER: Mutex<()> = Mutex::new(());

/// Waits for the driver, or says that there is none.
fn driver() -> Option<MutexGuard<'static, ()>> {
    let guard = DRIVER.lock().unwrap_or_else(PoisonError::into_inner);
    let usable = is_root() && Path::new("/dev/mapbuf/system").exists();
    if !usable {
        eprintln!("skipped: no driver here, or not root");
    }
    usable.then_some(guard)
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// The command that was built with the tests, or the one that is installed.
fn program() -> PathBuf {
    let built = PathBuf::from(env!("CARGO_BIN_EXE_mapbuf"));
    match env::var_os("MAPBUF_COMMAND") {
        Some(named) => named.into(),
        None if built.exists() => built,
        None => "mapbuf".into(),
    }
}

fn run(arguments: &str) -> Output {
    Command::new(program())
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

/// Runs it and expects an exit code.
#[track_caller]
fn code(arguments: &str, expected: i32) -> String {
    let output = run(arguments);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(expected),
        "mapbuf {arguments}: {said}{complained}"
    );
    said
}

#[track_caller]
fn json(arguments: &str, expected: i32) -> Value {
    let said = code(&format!("{arguments} --json"), expected);
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// A named buffer for one test.
struct Named(&'static str);

impl Named {
    fn new(name: &'static str, rest: &str) -> Self {
        run(&format!("remove {name}"));
        code(&format!("create {name} {rest}"), 0);
        Self(name)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        run(&format!("remove {}", self.0));
    }
}

#[test]
fn a_wrong_command_line_is_2() {
    for wrong in [
        "",
        "frobnicate",
        "create x --kind vmalloc",
        "create x --kind velvet --size 4K",
        "create x --kind vmalloc --size 4Q",
        "create x --kind vmalloc --size 4K --mode 9",
        "create x --kind vmalloc --size 4K --fill-pages abc",
        "fill x",
        "fill x --byte 1 --pages 22",
        "explain NoSuchReason",
    ] {
        code(wrong, 2);
    }
}

#[test]
fn reasons_are_explained_without_a_driver() {
    assert!(code("explain CowNeedsContiguous", 0).contains("MAP_SHARED"));
    assert_eq!(
        json("explain 305", 0)["reasons"][0]["name"],
        "CowNeedsContiguous"
    );
    let all = json("explain", 0);
    let numbered = |reasons: &Vec<_>| {
        let count = reasons
            .iter()
            .filter(|reason: &&Value| reason["number"].is_u64());
        count.count()
    };
    assert_eq!(
        all["reasons"].as_array().map(numbered),
        Some(mapbuf::Reason::ALL.len())
    );
    assert!(code("explain core", 0).contains("NoGrowth"));
}

#[test]
fn without_a_driver_it_is_3() {
    // Another test may be about to load it again.
    let _driver = DRIVER.lock().unwrap_or_else(PoisonError::into_inner);
    if Path::new("/sys/module/mapbuf").exists() {
        return;
    }
    for command in [
        "list",
        "info",
        "info x",
        "dump x",
        "fill x --byte 1",
        "remove x",
        "unload",
    ] {
        code(command, 3);
        assert_eq!(json(command, 3)["error"]["exit_code"], 3, "{command}");
    }
}

#[test]
fn a_buffer_is_made_shown_and_removed() {
    let Some(_driver) = driver() else { return };
    run("remove made");
    let made = json(
        "create made --kind coherent --size 5000 --mode 0640 --gid 7",
        0,
    );
    assert_eq!(
        (&made["bytes"], &made["kind"]),
        (&8192.into(), &"coherent".into())
    );
    let node = fs::metadata("/dev/mapbuf/named/made").unwrap();
    assert_eq!(
        (node.mode() & 0o7777, node.uid(), node.gid()),
        (0o640, 0, 7)
    );

    let list = json("list", 0);
    let row = list["buffers"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"] == "made");
    assert_eq!(row.unwrap()["mode"], "0640");
    assert!(code("list", 0).contains("made"));

    let info = json("info made", 0);
    assert_eq!(info["segments"][0]["length"], 8192);
    assert_eq!(info["segments"][0]["physical_address"], info["dma_address"]);
    assert!(code("info", 0).contains("coherent"));

    assert_eq!(json("remove made", 0)["removed"][0], "made");
    code("info made", 3);
    assert!(!Path::new("/dev/mapbuf/named/made").exists());
}

#[test]
fn bytes_are_filled_and_dumped_as_xxd_does() {
    let Some(_driver) = driver() else { return };
    let _buffer = Named::new(
        "bytes",
        "--kind vmalloc --size 8K --fill-pages ddccbbaa --mode 0600",
    );
    let dump = code("dump bytes --offset 4K --length 20", 0);
    let expected = "00001000: ddcc bbaa 0000 0000 0000 0000 0000 0000  ................\n\
                    00001010: 0000 0000                                ....\n";
    assert_eq!(dump, expected);
    assert_eq!(code("dump bytes", 0).lines().count(), 512);
    assert!(code("dump bytes -a", 0).lines().count() < 10);

    code("fill bytes --byte 41 --offset 4094 --length 4", 0);
    assert_eq!(
        json("dump bytes --offset 4094 --length 6", 0)["hex"],
        "41414141bbaa"
    );
    code("fill bytes --pages 0102", 0);
    assert_eq!(json("dump bytes --length 4", 0)["hex"], "0102bbaa");
    // The bounds: to the last byte, and not one further.
    code("fill bytes --byte 0 --offset 8191 --length 1", 0);
    code("fill bytes --byte 0 --offset 8191 --length 2", 2);
    code("dump bytes --offset 8K --length 1", 2);
    code("dump bytes --offset 8K", 0);
    code("dump bytes --offset 16383P --length 1", 2);
}

#[test]
fn refusals_say_why_and_what_next() {
    let Some(_driver) = driver() else { return };
    let _buffer = Named::new("taken", "--kind pages --size 4K");
    let refused = json("create taken --kind pages --size 4K", 1);
    assert_eq!(refused["error"]["reason"], "NameTaken");
    assert_eq!(refused["error"]["errno"], "EEXIST");
    assert!(refused["error"]["remedy"]
        .as_str()
        .unwrap()
        .contains("another name"));
    assert_eq!(
        json("create a/b --kind pages --size 4K", 1)["error"]["reason"],
        "NameInvalid"
    );
    assert_eq!(
        json("create x --kind pages --size 0", 1)["error"]["reason"],
        "ZeroBytes"
    );
    // Nothing stays behind of what was not named.
    assert_eq!(json("info", 0)["buffers"], 1);

    let partly = json("remove nobody taken", 3);
    assert_eq!(partly["removed"][0], "taken");
    assert_eq!(partly["error"]["reason"], "NameUnknown");
}

#[test]
fn without_permission_it_is_4() {
    let Some(_driver) = driver() else { return };
    let _private = Named::new("private", "--kind pages --size 4K --mode 0600");
    let as_nobody = |arguments: &str| {
        let mut command = Command::new(program());
        command
            .args(arguments.split_whitespace())
            .uid(65534)
            .gid(65534);
        command.output().unwrap().status.code()
    };
    for command in [
        "create x --kind pages --size 4K",
        "dump private",
        "fill private --byte 0",
        "remove private",
    ] {
        assert_eq!(as_nobody(command), Some(4), "{command}");
    }
    // What is public stays public.
    assert_eq!(as_nobody("list"), Some(0));
    assert_eq!(as_nobody("info private"), Some(0));
}

/// What describes the JSON of `mapbuf list`, made strict: a member that it does not name is a mistake.
fn schema() -> jsonschema::Validator {
    fn close(value: &mut Value) {
        match value {
            Value::Object(object) => {
                if object.contains_key("properties") {
                    object.insert("additionalProperties".into(), false.into());
                }
                object.values_mut().for_each(close);
            }
            Value::Array(array) => array.iter_mut().for_each(close),
            _ => {}
        }
    }
    let mut schema = serde_json::from_str(include_str!("../../dist/list.schema.json")).unwrap();
    close(&mut schema);
    jsonschema::validator_for(&schema).unwrap()
}

#[track_caller]
fn fits_the_schema(value: &Value) {
    let errors: Vec<_> = schema()
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?} in {value:#}");
}

#[test]
fn the_schema_refuses_what_it_does_not_describe() {
    let good = serde_json::json!({ "devices": [], "buffers": [], "regions": null });
    fits_the_schema(&good);
    for (member, value) in [
        ("regions", serde_json::json!([{ "name": "x" }])),
        ("buffers", serde_json::json!(null)),
        ("more", serde_json::json!(1)),
    ] {
        let mut bad = good.clone();
        bad[member] = value;
        assert!(!schema().is_valid(&bad), "{bad}");
    }
}

#[test]
fn lists_fit_their_schema() {
    let Some(_driver) = driver() else { return };
    fits_the_schema(&json("list", 0));
    let _coherent = Named::new("coherent", "--kind coherent --size 64K --mode 0600");
    let _pages = Named::new("pages", "--kind pages --size 2M --cache uncached");
    let list = json("list", 0);
    fits_the_schema(&list);
    assert_eq!(list["buffers"].as_array().unwrap().len(), 2);
    let output = Command::new(program())
        .args(["list", "--json"])
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    fits_the_schema(&list);
    assert_eq!(list["regions"], Value::Null);
}

#[test]
fn watching_shows_who_holds_what() {
    let Some(_driver) = driver() else { return };
    let _ring = Named::new("watched", "--kind pages --size 64K");
    // This process has it open and mapped.
    let ring = mapbuf::Named::open("watched").unwrap();
    let memory = ring.map().unwrap();
    let device = mapbuf::Device::open().unwrap();
    let unnamed = device.alloc(mapbuf::Kind::Vmalloc, 8192).unwrap();
    let other = unnamed.map().unwrap();
    let own = |look: &Value| {
        let mut processes = look["processes"].as_array().unwrap().iter();
        processes
            .find(|process| process["pid"] == std::process::id())
            .cloned()
    };
    let held = |process: &Value, what: &str| {
        let mut holds = process["holds"].as_array().unwrap().iter();
        holds.find(|hold| hold["what"] == what).cloned()
    };

    let mut watch = Command::new(program())
        .args(["list", "--watch=0.2", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut look = || -> Value {
        let look = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        fits_the_schema(&look);
        look
    };
    let first = look();
    let process = own(&first).unwrap();
    assert_eq!(process["uid"], 0);
    assert_eq!(process["at_first_look"], true);
    let ring_held = held(&process, "watched").unwrap();
    assert_eq!(
        (&ring_held["descriptors"], &ring_held["mapped_bytes"]),
        (&1.into(), &65536.into()),
        "{process}"
    );
    assert!(held(&process, "/dev/mapbuf/system").is_some(), "{process}");
    let row = first["buffers"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"] == "watched");
    assert_eq!(row.unwrap()["processes"], 1);
    assert!(first["used_bytes"].as_u64().unwrap() >= 65536 + 8192);
    let group = &first["cgroups"][0];
    assert_eq!(group["cgroup"], process["cgroup"], "{first}");

    // It lets go, and is gone from the list.
    drop((memory, ring, other, unnamed, device));
    let gone = (0..100).any(|_| own(&look()).is_none());
    assert!(gone, "still there");
    // SIGINT is what Ctrl-C sends.
    let pid = rustix::process::Pid::from_child(&watch);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(watch.wait().unwrap().code(), Some(0));

    let said = code("list --watch --looks 1", 0);
    assert!(said.contains("watched"), "{said}");
    code("list --watch=0", 2);
    code("list --looks 1", 2);
}

/// A file for `mapbuf apply`.
fn file(name: &str, text: &str) -> String {
    let path = env::temp_dir().join(format!("mapbuf-{name}-{}.toml", std::process::id()));
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_wrong_file_is_2_and_says_where() {
    let good = file(
        "good",
        "[[buffer]]\nname = \"x\"\nkind = \"pages\"\nsize = 1\n",
    );
    let bad = file(
        "bad",
        "[[buffer]]\nname = \"y\"\nkind = \"pages\"\nsize = 4Q\n",
    );
    let worse = file(
        "worse",
        "[[buffer]]\nname = \"z\"\nknd = \"pages\"\nsize = 1\n",
    );
    let wrong = json(&format!("apply {good} {bad} {worse}"), 2);
    let mistakes = wrong["error"]["mistakes"].as_array().unwrap();
    assert_eq!(mistakes.len(), 2, "{wrong}");
    assert_eq!(
        (&mistakes[0]["file"], &mistakes[0]["line"]),
        (&bad.as_str().into(), &4.into())
    );
    assert_eq!(
        (
            &mistakes[1]["file"],
            &mistakes[1]["line"],
            &mistakes[1]["column"]
        ),
        (&worse.as_str().into(), &3.into(), &1.into())
    );
    code("apply /no/such/file.toml", 6);
}

#[test]
fn files_are_applied_once() {
    let Some(_driver) = driver() else { return };
    for name in ["ring", "frame", "other"] {
        run(&format!("remove {name}"));
    }
    let _other = Named::new("other", "--kind pages --size 4K");
    let text = "[[buffer]]\nname = \"ring\"\nkind = \"vmalloc\"\nsize = \"64K\"\nmode = \"0640\"\n\
                owner = 5\ngroup = \"root\"\nfill-pages = \"ddccbbaa\"\n\
                [[buffer]]\nname = \"frame\"\nkind = \"contiguous\"\nsize = \"2M\"\nalign = \"2M\"\n";
    let path = file("applied", text);
    let action = |answer: &Value, at: usize| answer["buffers"][at]["action"].clone();

    // Nothing is changed before somebody agrees.
    let said = code(&format!("apply {path} --dry-run"), 0);
    assert!(
        said.contains("create") && said.contains("left alone"),
        "{said}"
    );
    code(&format!("apply {path}"), 2);
    code("info ring", 3);

    let answer = json(&format!("apply {path} --yes"), 0);
    assert_eq!(
        (action(&answer, 0), action(&answer, 1)),
        ("create".into(), "create".into())
    );
    assert_eq!(answer["buffers"][1]["done"], true);
    assert_eq!(answer["left_alone"][0], "other");
    let node = fs::metadata("/dev/mapbuf/named/ring").unwrap();
    assert_eq!(
        (node.mode() & 0o7777, node.uid(), node.gid()),
        (0o640, 5, 0)
    );
    assert_eq!(
        json("dump ring --offset 4K --length 4", 0)["hex"],
        "ddccbbaa"
    );
    let frame = json("info frame", 0);
    let start = frame["segments"][0]["physical_address"].as_str().unwrap();
    let start = u64::from_str_radix(start.trim_start_matches("0x"), 16).unwrap();
    assert_eq!(start % (2 << 20), 0, "{frame}");

    // A second time there is nothing to do, and nobody is asked.
    code("fill ring --byte 41 --length 1", 0);
    let answer = json(&format!("apply {path}"), 0);
    assert_eq!(
        (action(&answer, 0), action(&answer, 1)),
        ("keep".into(), "keep".into())
    );
    assert_eq!(json("dump ring --length 1", 0)["hex"], "41");

    // A node is changed in place, a buffer is not.
    let path = file(
        "applied",
        &text
            .replace("0640", "0600")
            .replace("2M\"\nalign", "4M\"\nalign"),
    );
    let answer = json(&format!("apply {path} --yes"), 1);
    assert_eq!(
        (action(&answer, 0), action(&answer, 1)),
        ("change".into(), "differs".into())
    );
    assert_eq!(answer["buffers"][1]["differences"][0]["field"], "size");
    assert_eq!(
        fs::metadata("/dev/mapbuf/named/ring").unwrap().mode() & 0o7777,
        0o600
    );
    assert_eq!(json("dump ring --length 1", 0)["hex"], "41");
    assert_eq!(json("info frame", 0)["bytes"], 2 << 20);

    let held = fs::File::open("/dev/mapbuf/named/frame").unwrap();
    code(&format!("apply {path} --yes --replace"), 0);
    assert_eq!(json("info frame", 0)["bytes"], 4 << 20);
    drop(held);
    code("remove ring frame", 0);
}

#[test]
fn memory_that_is_missing_changes_nothing() {
    let Some(_driver) = driver() else { return };
    run("remove first");
    let text = "[[buffer]]\nname = \"first\"\nkind = \"pages\"\nsize = \"64K\"\n\
                [[buffer]]\nname = \"vast\"\nkind = \"pages\"\nsize = \"1T\"\n";
    let path = file("vast", text);
    let refused = json(&format!("apply {path} --yes"), 1);
    assert_eq!(refused["error"]["reason"], "OverLimit", "{refused}");
    assert_eq!(refused["error"]["place"]["line"], 6);
    let said = refused["error"]["message"].as_str().unwrap();
    assert!(
        said.contains(":6:8: 'vast': ") && said.ends_with("nothing was changed"),
        "{said}"
    );
    code("info first", 3);
    // A region that nobody declared is a mistake of the file.
    let path = file(
        "region",
        "[[buffer]]\nname = \"nowhere\"\nkind = \"region\"\n",
    );
    let wrong = json(&format!("apply {path} --yes"), 2);
    let said = wrong["error"]["mistakes"][0]["message"].as_str().unwrap();
    assert!(said.contains("regions=nowhere:"), "{said}");
}

#[test]
fn a_failure_in_the_middle_says_what_was_done() {
    let Some(_driver) = driver() else { return };
    for name in ["first", "second"] {
        run(&format!("remove {name}"));
    }
    let text = "[[buffer]]\nname = \"first\"\nkind = \"pages\"\nsize = 1\n\
                [[buffer]]\nname = \"second\"\nkind = \"pages\"\nsize = 1\nowner = 0\n";
    let path = file("middle", text);
    // Who is not root cannot give a buffer to root.
    let _node = Opened::to_all("/dev/mapbuf/system");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let mut command = Command::new(program());
    command
        .args(["apply", &path, "--yes", "--json"])
        .uid(65534)
        .gid(65534);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let answer = String::from_utf8(output.stdout).unwrap();
    let answer: Value = serde_json::from_str(&answer[answer.find('{').unwrap()..]).unwrap();
    assert_eq!(answer["error"]["reason"], "OwnerNotPermitted", "{answer}");
    assert_eq!(answer["error"]["done"][0], "created first");
    code("info first", 0);
    code("info second", 3);
    code("remove first", 0);
}

/// A node that everybody may use for a while.
struct Opened(&'static str);

impl Opened {
    fn to_all(path: &'static str) -> Self {
        fs::set_permissions(path, PermissionsExt::from_mode(0o666)).unwrap();
        Self(path)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        fs::set_permissions(self.0, PermissionsExt::from_mode(0o660)).unwrap();
    }
}

#[test]
fn unload_names_who_holds_the_driver() {
    let Some(_driver) = driver() else { return };
    let _kept = Named::new("kept", "--kind pages --size 4K");
    let node = fs::File::open("/dev/mapbuf/system").unwrap();
    let held = json("unload", 5);
    let holder = &held["error"]["holders"][0];
    assert_eq!(holder["pid"], std::process::id());
    assert!(holder["holds"][0]
        .as_str()
        .unwrap()
        .starts_with("/dev/mapbuf/system open as descriptor"));
    // All or nothing.
    code("info kept", 0);

    drop(node);
    assert_eq!(json("unload", 0)["removed"][0], "kept");
    assert!(!Path::new("/dev/mapbuf").exists());
    code("unload", 3);
    code("load max_names", 2);
    let loaded = json("load max_bytes=8M", 0);
    assert_eq!(loaded["already_loaded"], false);
    assert_eq!(
        json("create x --kind pages --size 9M", 1)["error"]["reason"],
        "OverLimit"
    );
    assert_eq!(json("load", 0)["already_loaded"], true);
    code("unload", 0);
    code("load", 0);
}

#[test]
fn the_demo_holds() {
    let Some(_driver) = driver() else { return };
    let report: Value = serde_json::from_str(&code("demo --json -", 0)).unwrap();
    let kinds = report["kinds"].as_array().unwrap();
    assert_eq!(kinds.len(), 4);
    for kind in kinds {
        for check in ["user_to_kernel", "kernel_to_user", "survives_free"] {
            assert_eq!(kind[check], true, "{kind}");
        }
    }
    let requirements = report["requirements"].as_object().unwrap();
    assert_eq!(requirements.len(), 32);
    for id in [
        "A1", "A2", "A3", "A4", "A6", "A7", "A10", "A11", "B1", "B2", "B3", "B4", "B7", "B8",
    ] {
        assert_eq!(requirements[id], "pass", "{id}");
    }
    assert!(requirements.values().all(|verdict| verdict != "fail"));
    assert!(code("demo", 0)
        .lines()
        .all(|line| line.chars().count() <= 80));
}

//! The guide in a browser: the page that answers is held against `mapbuf matrix` in a guest, used by the keyboard, and
//! looked at on a narrow screen, in the dark, and without JavaScript; and no page has a line that is cut off.

use super::browser::{self, Browser};
use super::plan::{self, Boot};
use super::Tally;
use crate::docs;
use crate::kit::Kit;
use crate::new_driver::WAYS;
use anyhow::{bail, ensure, Context, Result};
use mapbuf_abi::{Cache, Kind, Method};
use mapbuf_init::Job;
use mapbuf_vm::{qemu, Verdict};
use serde::Deserialize;
use serde_json::{json, Value};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The name for `--profile`.
pub const PROFILE: &str = "guide";

/// What the guest gets for `mapbuf matrix`, in MiB.
const MEMORY_MIB: u32 = 1024;

/// The window of a small laptop, and a telephone's.
const WIDE: u32 = 1280;
const NARROW: u32 = 360;

/// Fewer cells than this are no comparison.
const CELLS: usize = 60;

type Test = fn(&mut Browser, &Path, &Kit, Option<&Path>) -> Result<()>;

const TESTS: [(&str, Test); 7] = [
    ("guide::cells_are_those_of_mapbuf_matrix", cells),
    ("guide::keyboard_is_enough", keyboard),
    ("guide::narrow_screen_shows_all", narrow),
    ("guide::dark_theme_can_be_read", dark),
    (
        "guide::without_javascript_it_says_what_it_would_show",
        without_javascript,
    ),
    ("guide::nothing_is_cut_off", nothing_is_cut_off),
    ("guide::drivers_have_two_tabs", tabs),
];

/// What is to be done, if there are such tests; one of them boots a guest.
pub fn plan<'a>(kit: &'a Kit, filter: &str, driver: Option<&'a Path>) -> Option<Boot<'a>> {
    let chosen = plan::chosen(TESTS, filter);
    if chosen.is_empty() {
        return None;
    }
    Some(Boot {
        name: PROFILE.to_owned(),
        purpose: "the guide in a browser, and its table beside the driver's",
        tests: chosen.len() as u64,
        memory: MEMORY_MIB,
        run: Box::new(move |line| {
            let book = docs::book(&kit.ui)?;
            let Some(program) = browser::find() else {
                println!("{PROFILE}: skipped: no Chromium is installed (apt install chromium)");
                return Ok(Tally {
                    skipped: chosen.len() as u64,
                    ..Tally::default()
                });
            };
            Ok(plan::one_by_one(PROFILE, chosen, line, |test| {
                let mut browser = Browser::start(program)?;
                test(&mut browser, &book, kit, driver)
            }))
        }),
    })
}

/// A cell of `mapbuf matrix --json`.
#[derive(Debug, Deserialize)]
struct Cell {
    kind: String,
    region: Option<String>,
    cache: String,
    bytes: u64,
    runs: u64,
    page: u64,
    pages: u64,
    method: String,
    sharing: String,
    admin: bool,
    driver: Answer,
}

#[derive(Debug, Deserialize)]
struct Answer {
    maps: Option<bool>,
    sealed: Option<bool>,
    reason: Option<String>,
}

/// Asks the driver in a guest for all cells.
fn matrix(kit: &Kit, driver: Option<&Path>) -> Result<Vec<Cell>> {
    let mut guest = kit.guest(false)?;
    let mut job = Job {
        argv: ["mapbuf", "matrix", "--json"].map(Into::into).to_vec(),
        ..Job::default()
    };
    kit.load(&mut guest, &mut job, &kit.driver(driver)?, "")?;
    guest.program(&kit.command()?)?;
    let mut machine = kit.machine();
    machine.memory = MEMORY_MIB;
    machine.limits.quiet = Some(Duration::from_secs(120));
    let mut said = Vec::new();
    let report = kit.boot(&machine, guest, &job, &mut |stream, bytes| {
        if stream == qemu::Stream::Stdout {
            said.extend_from_slice(bytes);
        }
    })?;
    ensure!(
        report.verdict == Verdict::Exited(0),
        "mapbuf matrix: {}",
        report.verdict
    );
    let value: Value = serde_json::from_slice(&said).context("mapbuf matrix --json")?;
    let cells = value.get("cells").unwrap_or(&value).clone();
    Ok(serde_json::from_value(cells)?)
}

/// Its numbers, as the page has them.
fn question(cell: &Cell) -> Option<Value> {
    let sharing = match cell.sharing.as_str() {
        "shared" => 0,
        "private, read-only" => 1,
        "private, writable" => 2,
        _ => return None,
    };
    Some(json!({
        "kind": Kind::from_name(&cell.kind)?.number(),
        "cache": Cache::from_name(&cell.cache)?.number(),
        "method": Method::from_name(&cell.method)?.number(),
        "sharing": sharing,
        "size": cell.bytes / 4096,
        "page": cell.page,
        "pages": cell.pages,
        "admin": cell.admin,
        "device": false,
    }))
}

/// The page says of each cell what the driver did, where the driver's memory lay as the page supposes.
fn cells(browser: &mut Browser, book: &Path, kit: &Kit, driver: Option<&Path>) -> Result<()> {
    let cells = matrix(kit, driver)?;
    browser.open(&book.join("table.html"))?;
    let mut compared = 0;
    let mut kinds = BTreeSet::new();
    for cell in cells.iter().filter(|cell| cell.region.is_none()) {
        let asked = question(cell).with_context(|| format!("{cell:?}"))?;
        let told = browser.evaluate(&format!("mapbufTable.ask({asked})"))?;
        // What could not be allocated has no runs.
        if cell.runs > 0 && told["runs"] != json!(cell.runs) {
            continue;
        }
        let same = match cell.driver.maps {
            Some(true) => {
                told["maps"] == json!(true) && told["sealed"] == json!(cell.driver.sealed)
            }
            Some(false) => {
                told["maps"] == json!(false) && told["reason"] == json!(cell.driver.reason)
            }
            None => false,
        };
        if !same {
            bail!("the driver: {cell:?}; the page: {told}");
        }
        compared += 1;
        kinds.insert(cell.kind.clone());
    }
    ensure!(
        compared >= CELLS && kinds.len() == 4,
        "only {compared} cells of {kinds:?} could be compared"
    );
    Ok(())
}

/// What the page shows.
fn shown(browser: &mut Browser) -> Result<(String, String)> {
    let value = browser.evaluate(
        "(() => { const it = document.querySelector('.table-answer'); \
         return [it.dataset.answer, it.dataset.reason || '', it.textContent]; })()",
    )?;
    let text = |index: usize| value[index].as_str().unwrap_or_default().to_owned();
    Ok((format!("{} {}", text(0), text(1)), text(2)))
}

fn keyboard(browser: &mut Browser, book: &Path, _: &Kit, _: Option<&Path>) -> Result<()> {
    const TAB: u32 = 9;
    const DOWN: u32 = 40;
    const UP: u32 = 38;
    const RIGHT: u32 = 39;
    browser.open(&book.join("table.html"))?;
    let (answer, text) = shown(browser)?;
    ensure!(answer == "refused CowNeedsContiguous", "at first: {answer}");
    ensure!(
        text.contains("get_remap_pgoff") && text.contains("EINVAL, reason"),
        "{text}"
    );
    // From the field before it, by the key that leads on.
    browser.evaluate("document.getElementById('table-method').focus()")?;
    browser.press("Tab", TAB)?;
    let focus = browser.evaluate("document.activeElement.id")?;
    ensure!(focus == json!("table-sharing"), "Tab leads to {focus}");
    browser.press("ArrowUp", UP)?;
    let (answer, text) = shown(browser)?;
    ensure!(
        answer == "maps " && text.contains("VM_MAYWRITE"),
        "{answer}: {text}"
    );
    browser.press("ArrowUp", UP)?;
    let (answer, text) = shown(browser)?;
    ensure!(
        answer == "maps "
            && text.contains("remap_pfn_range, page by page")
            && text.contains("MAP_SHARED"),
        "{answer}: {text}"
    );
    browser.press("ArrowDown", DOWN)?;
    // The book's own keys must not turn the page.
    browser.press("ArrowRight", RIGHT)?;
    let place = browser.evaluate("location.pathname")?;
    ensure!(
        place
            .as_str()
            .is_some_and(|place| place.ends_with("/table.html")),
        "an arrow key led to {place}"
    );
    // A number, typed.
    browser.evaluate(
        "(() => { const it = document.getElementById('table-pages'); it.focus(); it.select(); })()",
    )?;
    browser.enter("17")?;
    let (answer, text) = shown(browser)?;
    ensure!(
        answer == "refused BeyondEnd" && text.contains("65536"),
        "{answer}: {text}"
    );
    browser.evaluate("document.getElementById('table-pages').select()")?;
    browser.enter("0")?;
    let (answer, _) = shown(browser)?;
    ensure!(answer == "none ", "no pages: {answer}");
    // Each field has a name for those who hear the page, and the answer is told when it changes.
    let unnamed = browser.evaluate(
        "[...document.querySelectorAll('.table-form select, .table-form input')]\
         .filter(it => !it.labels.length || !it.labels[0].textContent.trim()).length",
    )?;
    ensure!(unnamed == json!(0), "{unnamed} fields without a name");
    let live =
        browser.evaluate("document.querySelector('.table-answer').getAttribute('aria-live')")?;
    ensure!(live == json!("polite"), "aria-live is {live}");
    Ok(())
}

/// What is wider than its place.
const CUT_OFF: &str = "(() => { \
    const wide = [...document.querySelectorAll('main pre > code, main pre, main table, main img, main dl, main form, main output')] \
        .filter(it => it.scrollWidth > it.clientWidth + 1 || it.getBoundingClientRect().right > innerWidth + 1) \
        .map(it => `${it.tagName}: ${it.textContent.trim().slice(0, 60)}`); \
    if (document.documentElement.scrollWidth > innerWidth) wide.push(`the page: ${document.documentElement.scrollWidth}`); \
    return wide; })()";

fn narrow(browser: &mut Browser, book: &Path, _: &Kit, _: Option<&Path>) -> Result<()> {
    browser.set_width(NARROW)?;
    browser.open(&book.join("table.html"))?;
    let wide = browser.evaluate(CUT_OFF)?;
    ensure!(wide == json!([]), "at {NARROW} pixels: {wide}");
    let (_, text) = shown(browser)?;
    ensure!(text.contains("get_remap_pgoff"), "{text}");
    Ok(())
}

/// Text and fields stand out from what is behind them: WCAG's contrast of 4.5.
fn dark(browser: &mut Browser, book: &Path, _: &Kit, _: Option<&Path>) -> Result<()> {
    let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
    browser.call("Emulation.setEmulatedMedia", features)?;
    browser.open(&book.join("table.html"))?;
    let class = browser.evaluate("document.documentElement.className")?;
    ensure!(
        ["navy", "coal", "ayu"]
            .iter()
            .any(|dark| class.to_string().contains(dark)),
        "not a dark theme: {class}"
    );
    let low = browser.evaluate(
        "(() => { \
         const channels = colour => colour.match(/[\\d.]+/g).map(Number); \
         const light = ([r, g, b]) => [r, g, b].map(c => c / 255) \
             .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4) \
             .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0); \
         const behind = it => { for (; it; it = it.parentElement) { \
             const c = channels(getComputedStyle(it).backgroundColor); \
             if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; }; \
         return [...document.querySelectorAll('.table-form select, .table-form input, .table-form span, .table-answer dt, .table-answer dd')] \
             .map(it => { const a = light(channels(getComputedStyle(it).color)), b = light(behind(it)); \
                 return [it.id || it.textContent.slice(0, 20), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]; }) \
             .filter(([, contrast]) => contrast < 4.5); })()",
    )?;
    ensure!(low == json!([]), "too little contrast: {low}");
    Ok(())
}

fn without_javascript(browser: &mut Browser, book: &Path, _: &Kit, _: Option<&Path>) -> Result<()> {
    browser.call(
        "Emulation.setScriptExecutionDisabled",
        json!({ "value": true }),
    )?;
    browser.open(&book.join("table.html"))?;
    // The protocol's own view of the page, which needs no script in it.
    let document = browser.call("DOM.getDocument", json!({}))?;
    let words = json!({ "nodeId": document["root"]["nodeId"], "selector": "#table-alive" });
    let place = browser.call("DOM.querySelector", words)?;
    let html = browser.call("DOM.getOuterHTML", json!({ "nodeId": place["nodeId"] }))?;
    let html = html["outerHTML"].as_str().unwrap_or_default();
    ensure!(
        html.contains("mapbuf matrix")
            && html.contains("needs JavaScript")
            && !html.contains("<form"),
        "{html}"
    );
    Ok(())
}

/// Each chapter with drivers shows those in one language, and those in the other by the keyboard alone.
fn tabs(browser: &mut Browser, book: &Path, _: &Kit, _: Option<&Path>) -> Result<()> {
    const RIGHT: u32 = 39;
    const SEEN: &str = "[...document.querySelectorAll('.tabs .tab')] \
        .filter(it => it.offsetHeight > 0).map(it => it.querySelector('code').textContent)";
    for chapter in WAYS.iter().map(|way| way.chapter).collect::<BTreeSet<_>>() {
        let drivers = WAYS.iter().filter(|way| way.chapter == chapter);
        let drivers: Vec<_> = drivers.map(|way| way.file).collect();
        let page = chapter.replace(".md", ".html");
        browser.open(&book.join(&page))?;
        let named = |folder: &str, extension: &str| {
            let name = |file| format!("examples/drivers/{folder}/{file}.{extension}");
            json!(drivers.iter().map(name).collect::<Vec<_>>())
        };
        browser.evaluate(&format!(
            "document.getElementById('{}-c').click()",
            drivers[0]
        ))?;
        let seen = browser.evaluate(SEEN)?;
        ensure!(seen == named("c", "c"), "{page} shows {seen}");
        browser.evaluate(&format!(
            "document.getElementById('{}-c').focus()",
            drivers[0]
        ))?;
        browser.press("ArrowRight", RIGHT)?;
        let seen = browser.evaluate(SEEN)?;
        ensure!(seen == named("rust", "rs"), "{page} shows {seen} behind it");
        let place = browser.evaluate("location.pathname")?;
        ensure!(
            place.as_str().is_some_and(|place| place.ends_with(&page)),
            "an arrow key led from {page} to {place}"
        );
    }
    Ok(())
}

/// The pages of the book.
fn pages(book: &Path) -> Result<Vec<PathBuf>> {
    let mut pages: Vec<_> = fs::read_dir(book)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "html")
        })
        // All in one, and what is no page to be read.
        .filter(|path| {
            !["print", "404", "toc"]
                .iter()
                .any(|name| path.file_stem() == Some(name.as_ref()))
        })
        .collect();
    pages.sort();
    Ok(pages)
}

fn nothing_is_cut_off(browser: &mut Browser, book: &Path, _: &Kit, _: Option<&Path>) -> Result<()> {
    browser.set_width(WIDE)?;
    let pages = pages(book)?;
    ensure!(pages.len() > 20, "{} pages only", pages.len());
    let mut found = Vec::new();
    for page in pages {
        browser.open(&page)?;
        let wide = browser.evaluate(CUT_OFF)?;
        // And what stands behind it.
        browser.evaluate(
            "document.querySelectorAll('.tabs > input:nth-of-type(2)').forEach(it => it.checked = true)",
        )?;
        let behind = browser.evaluate(CUT_OFF)?;
        if wide != json!([]) || behind != json!([]) {
            let name = page
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            found.push(format!("{name}: {wide}, {behind}"));
        }
    }
    ensure!(found.is_empty(), "at {WIDE} pixels: {}", found.join("; "));
    Ok(())
}

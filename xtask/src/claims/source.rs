//! What a file of the kernel defines, and the text of each definition.
//!
//! No compiler reads the file: most of it hangs on the configuration, and a claim is about the text. What is relied on
//! is the kernel's own style: everything that a file defines begins outside of all braces, and a `}` in the first
//! column ends it, whatever the branches of an `#if` did to the braces before.

use std::ops::Range;

/// One thing that a file defines or declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is called; a macro that makes a function has its own name and the function's.
    pub names: Vec<String>,
    /// Whether it is only declared: the prototype of a function.
    pub declared: bool,
    /// Its text in the file, in bytes.
    pub range: Range<usize>,
}

/// The language of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// C, and assembly as far as its comments go.
    C,
    /// Rust.
    Rust,
}

impl Language {
    /// By the end of a file's name.
    pub fn of(path: &str) -> Option<Self> {
        match path.rsplit_once('.')?.1 {
            "c" | "h" => Some(Self::C),
            "rs" => Some(Self::Rust),
            _ => None,
        }
    }
}

/// What a piece of a source file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Code.
    Code,
    /// A comment from `//` to the end of the line.
    LineComment,
    /// A comment from `/*` to `*/`.
    BlockComment,
    /// A string or a character, its quotes with it.
    Text,
}

/// Cuts a source file into pieces, which cover all of it.
pub fn pieces(source: &str, language: Language) -> Vec<(Piece, Range<usize>)> {
    let bytes = source.as_bytes();
    let mut pieces: Vec<(Piece, Range<usize>)> = Vec::new();
    let mut code = 0;
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let (piece, length) = if rest.starts_with(b"//") {
            (Piece::LineComment, until(rest, b"\n"))
        } else if rest.starts_with(b"/*") {
            (Piece::BlockComment, block_comment(rest, language))
        } else if rest[0] == b'"' {
            (Piece::Text, quoted(rest, b'"'))
        } else if language == Language::Rust && raw_string(bytes, at).is_some() {
            (Piece::Text, raw_string(bytes, at).unwrap_or(1))
        } else if rest[0] == b'\'' && is_character(rest, language) {
            (Piece::Text, quoted(rest, b'\''))
        } else {
            at += 1;
            continue;
        };
        if code < at {
            pieces.push((Piece::Code, code..at));
        }
        pieces.push((piece, at..at + length));
        at += length;
        code = at;
    }
    if code < bytes.len() {
        pieces.push((Piece::Code, code..bytes.len()));
    }
    pieces
}

fn until(bytes: &[u8], end: &[u8]) -> usize {
    bytes
        .windows(end.len())
        .position(|window| window == end)
        .unwrap_or(bytes.len())
}

/// The length of a comment in `/*`; Rust's are nested.
fn block_comment(bytes: &[u8], language: Language) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") && (depth == 0 || language == Language::Rust) {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The length of what begins with a quote and ends with the next one that no backslash hides.
fn quoted(bytes: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The length of a raw string that begins at `at`.
fn raw_string(bytes: &[u8], at: usize) -> Option<usize> {
    let begins_a_word = at == 0 || !is_word(bytes[at - 1]) || bytes[at - 1] == b'b';
    if bytes[at] != b'r' || !begins_a_word {
        return None;
    }
    let hashes = bytes[at + 1..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    if bytes.get(at + 1 + hashes) != Some(&b'"') {
        return None;
    }
    let inside = at + 2 + hashes;
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let length = until(&bytes[inside..], &end);
    Some((inside + length + end.len()).min(bytes.len()) - at)
}

/// Whether a quote begins a character rather than one of Rust's lifetimes.
fn is_character(bytes: &[u8], language: Language) -> bool {
    if language == Language::C {
        return true;
    }
    if bytes.get(1) == Some(&b'\\') {
        return true;
    }
    // One character, of one to four bytes, and the quote behind it.
    let text = std::str::from_utf8(&bytes[1..bytes.len().min(6)]);
    let valid = match &text {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[1..1 + error.valid_up_to()]).unwrap_or(""),
    };
    let mut characters = valid.chars();
    characters.next().is_some() && characters.next() == Some('\'')
}

/// Whether a byte can stand in an identifier.
pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The source with blanks for all that is no code; what is left stands where it stood.
pub fn masked(source: &str, language: Language) -> Vec<u8> {
    let mut masked = source.as_bytes().to_vec();
    for (piece, range) in pieces(source, language) {
        if piece != Piece::Code {
            blank(&mut masked[range]);
        }
    }
    masked
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

/// Everything that a file defines or declares, in its order.
pub fn items(source: &str, language: Language) -> Vec<Item> {
    let mut masked = masked(source, language);
    match language {
        Language::C => {
            let mut items = macros(&mut masked);
            items.extend(c_items(&masked));
            items
        }
        Language::Rust => rust_items(&masked),
    }
}

/// The macros of a C file, whose directives are blanked.
fn macros(masked: &mut [u8]) -> Vec<Item> {
    let mut items = Vec::new();
    let mut at = 0;
    while at < masked.len() {
        let end = end_of_directive(masked, at);
        let line = &masked[at..end];
        let text = line.trim_ascii_start();
        if text.starts_with(b"#") {
            let text = text[1..].trim_ascii_start();
            if let Some(rest) = text.strip_prefix(b"define") {
                let name = first_word(rest.trim_ascii_start());
                if !name.is_empty() {
                    items.push(Item {
                        names: vec![name],
                        declared: false,
                        range: at..end,
                    });
                }
            }
            blank(&mut masked[at..end]);
            at = end + 1;
        } else {
            at += until(&masked[at..], b"\n") + 1;
        }
    }
    items
}

/// The end of a line, and of those that a backslash joins to it.
fn end_of_directive(bytes: &[u8], from: usize) -> usize {
    let mut end = from;
    loop {
        end += until(&bytes[end..], b"\n");
        if end == bytes.len() || end == 0 || bytes[end - 1] != b'\\' {
            return end;
        }
        end += 1;
    }
}

fn first_word(bytes: &[u8]) -> String {
    let length = bytes.iter().take_while(|byte| is_word(**byte)).count();
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

/// The rest of a C file.
fn c_items(masked: &[u8]) -> Vec<Item> {
    let mut items = Vec::new();
    let mut start = None;
    let mut at = 0;
    while at < masked.len() {
        match masked[at] {
            byte if byte.is_ascii_whitespace() => at += 1,
            b';' => {
                if let Some(start) = start.take() {
                    items.extend(statement(masked, start..at + 1));
                }
                at += 1;
            }
            b'(' | b'[' => {
                start.get_or_insert(at);
                at = closing(masked, at);
            }
            b'{' => {
                let begin = start.unwrap_or(at);
                let close = closing(masked, at);
                let head = begin..at;
                let end = if is_function(&masked[head.clone()]) {
                    close
                } else {
                    // A type or a variable: up to its semicolon, if that comes next but for names and attributes.
                    let rest = masked[close..]
                        .iter()
                        .position(|byte| matches!(byte, b';' | b'{' | b'}'));
                    rest.map_or(close, |rest| close + rest + 1)
                };
                items.extend(block(masked, head, at..close, close..end));
                start = None;
                at = end.max(at + 1);
            }
            _ => {
                start.get_or_insert(at);
                at += 1;
            }
        }
    }
    items
}

/// One past what closes the bracket at `open`; for a brace at the latest past the next one in the first column.
fn closing(masked: &[u8], open: usize) -> usize {
    let mut depth = 0_i32;
    for (at, byte) in masked.iter().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth -= 1;
                let first_column = *byte == b'}' && masked[at - 1] == b'\n';
                if depth <= 0 || first_column {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    masked.len()
}

/// Whether a block with this head is a function's: a name with parentheses, and no `=`.
fn is_function(head: &[u8]) -> bool {
    let named = words(head)
        .iter()
        .any(|(word, _, called)| *called && word != "__attribute__");
    named && !top_level(head).contains(&b'=')
}

/// What of a text stands outside of all parentheses and brackets (these themselves are kept).
fn top_level(text: &[u8]) -> Vec<u8> {
    let mut depth = 0;
    let mut out = Vec::new();
    for &byte in text {
        if matches!(byte, b')' | b']') {
            depth -= 1;
        }
        if depth == 0 {
            out.push(byte);
        }
        if matches!(byte, b'(' | b'[') {
            depth += 1;
        }
    }
    out
}

/// The words outside of all parentheses: each with its place, and whether a parenthesis follows.
fn words(text: &[u8]) -> Vec<(String, usize, bool)> {
    let mut found = Vec::new();
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            byte if depth == 0 && is_word(byte) => {
                let word = first_word(&text[at..]);
                let end = at + word.len();
                let called = text[end..].trim_ascii_start().first() == Some(&b'(');
                found.push((word, at, called));
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// The names that the calls outside of all parentheses give: of a function its name, of a macro that defines something
/// its first argument too.
fn called_names(text: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    for (word, at, called) in words(text) {
        if !called {
            continue;
        }
        if is_macro(&word) {
            let open = at + until(&text[at..], b"(");
            let argument = first_word(text[open + 1..].trim_ascii_start());
            if !argument.is_empty() {
                names.push(argument);
            }
        }
        names.push(word);
    }
    names
}

/// Whether a name is all in capitals.
fn is_macro(name: &str) -> bool {
    name.bytes().any(|byte| byte.is_ascii_uppercase())
        && !name.bytes().any(|byte| byte.is_ascii_lowercase())
}

/// What ends with a semicolon and has no block.
fn statement(masked: &[u8], range: Range<usize>) -> Option<Item> {
    let text = &masked[range.clone()];
    let all = words(text);
    let first = all.first()?.0.as_str();
    if first.starts_with("EXPORT_SYMBOL") || first.starts_with("MODULE_") {
        return None;
    }
    let assigned = top_level(text).contains(&b'=');
    let called = called_names(text);
    let (names, declared) = if first == "typedef" {
        // `typedef int (*name)(…)`, or the last word.
        let pointer = text.windows(2).position(|pair| pair == b"(*");
        let name = pointer.map(|at| first_word(text[at + 2..].trim_ascii_start()));
        (vec![name.or_else(|| Some(all.last()?.0.clone()))?], false)
    } else if !called.is_empty() && !assigned {
        // A macro in capitals defines what it is given.
        let made = all
            .iter()
            .any(|(word, _, called)| *called && is_macro(word));
        (called, !made)
    } else {
        let end = top_level_position(text, b"=[;").unwrap_or(text.len());
        let (name, ..) = words(&text[..end]).pop()?;
        (vec![name], first == "extern" || all.len() < 2)
    };
    Some(Item {
        names,
        declared,
        range,
    })
}

fn top_level_position(text: &[u8], of: &[u8]) -> Option<usize> {
    let mut depth = 0;
    for (at, byte) in text.iter().enumerate() {
        if depth == 0 && of.contains(byte) {
            return Some(at);
        }
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// What has a block: a function, a type with what is named behind it, a variable.
fn block(masked: &[u8], head: Range<usize>, body: Range<usize>, tail: Range<usize>) -> Vec<Item> {
    let text = &masked[head.clone()];
    let range = head.start..tail.end.max(body.end);
    let mut items = Vec::new();
    let mut names = Vec::new();
    let all = words(text);
    if is_function(text) {
        names = called_names(text);
    } else if top_level(text).contains(&b'=') {
        let end = top_level_position(text, b"=[").unwrap_or(text.len());
        names.extend(words(&text[..end]).pop().map(|(name, ..)| name));
    } else {
        let keyword = all
            .iter()
            .position(|(word, ..)| matches!(word.as_str(), "struct" | "union" | "enum"));
        if let Some(keyword) = keyword {
            names.extend(all.get(keyword + 1).map(|(name, ..)| name.clone()));
            names.extend(words(&masked[tail]).into_iter().map(|(name, ..)| name));
            if all[keyword].0 == "enum" {
                items.extend(enumerators(masked, body));
            }
        }
    }
    if !names.is_empty() {
        let item = Item {
            names,
            declared: false,
            range,
        };
        items.insert(0, item);
    }
    items
}

fn enumerators(masked: &[u8], body: Range<usize>) -> Vec<Item> {
    let mut items = Vec::new();
    let mut from = body.start + 1;
    while from < body.end {
        let length = top_level_position(&masked[from..body.end], b",}").unwrap_or(body.end - from);
        let text = &masked[from..from + length];
        let blanks = text.len() - text.trim_ascii_start().len();
        let name = first_word(text.trim_ascii_start());
        if !name.is_empty() {
            items.push(Item {
                names: vec![name],
                declared: false,
                range: from + blanks..from + length,
            });
        }
        from += length + 1;
    }
    items
}

/// The items of a Rust file, however deep they lie.
fn rust_items(masked: &[u8]) -> Vec<Item> {
    const KEYWORDS: &[&str] = &[
        "fn",
        "struct",
        "enum",
        "union",
        "trait",
        "const",
        "static",
        "type",
        "mod",
        "macro_rules",
    ];
    let mut items = Vec::new();
    let mut at = 0;
    while at < masked.len() {
        if !is_word(masked[at]) {
            at += 1;
            continue;
        }
        let word = first_word(&masked[at..]);
        let begin = at;
        at += word.len();
        if !KEYWORDS.contains(&word.as_str()) {
            continue;
        }
        let rest = &masked[at..];
        let skipped = rest
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace() || **byte == b'!')
            .count();
        let name = first_word(&rest[skipped..]);
        if skipped == 0 || name.is_empty() || KEYWORDS.contains(&name.as_str()) {
            continue;
        }
        // From the beginning of the line: what stands before the keyword says who may use it.
        let line = masked[..begin].iter().rposition(|byte| *byte == b'\n');
        let start = line.map_or(0, |line| line + 1);
        let mut end = at + skipped + name.len();
        while end < masked.len() {
            match masked[end] {
                b';' => {
                    end += 1;
                    break;
                }
                b'{' => {
                    end = rust_closing(masked, end);
                    if !matches!(word.as_str(), "const" | "static") {
                        break;
                    }
                }
                b'(' | b'[' => end = rust_closing(masked, end),
                _ => end += 1,
            }
        }
        items.push(Item {
            names: vec![name],
            declared: false,
            range: start..end,
        });
    }
    items
}

fn rust_closing(masked: &[u8], open: usize) -> usize {
    let mut depth = 0_i32;
    for (at, byte) in masked.iter().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth -= 1;
                if depth <= 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    masked.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of what is defined under a name.
    fn defined<'a>(source: &'a str, language: Language, name: &str) -> Vec<&'a str> {
        items(source, language)
            .into_iter()
            .filter(|item| !item.declared && item.names.iter().any(|known| known == name))
            .map(|item| &source[item.range])
            .collect()
    }

    fn in_c<'a>(source: &'a str, name: &str) -> Vec<&'a str> {
        defined(source, Language::C, name)
    }

    #[test]
    fn functions_of_every_shape() {
        let source = "\
/* static int no(void) { } */
static inline int one(void)
{
	return \"}\"[0] + '{';
}

int __must_check
two(struct vm_area_struct *vma, unsigned long addr,
    int (*fn)(void *, int))
	__releases(&lock)
{
	if (addr) {
		return one();
	}
	return 0;
}
EXPORT_SYMBOL(two);

static struct page *three(struct folio *folio) { return NULL; }
int four(int a);
SYSCALL_DEFINE6(mmap, unsigned long, addr, unsigned long, len,
		unsigned long, off)
{
	return 0;
}
";
        assert_eq!(in_c(source, "no"), [""; 0]);
        let one = in_c(source, "one");
        assert!(
            one.len() == 1 && one[0].starts_with("static inline") && one[0].ends_with("'{';\n}")
        );
        let two = in_c(source, "two");
        assert!(
            two.len() == 1 && two[0].starts_with("int __must_check\ntwo("),
            "{two:?}"
        );
        assert!(two[0].ends_with("return 0;\n}"), "{two:?}");
        assert_eq!(
            in_c(source, "three"),
            ["static struct page *three(struct folio *folio) { return NULL; }"]
        );
        assert_eq!(in_c(source, "four"), [""; 0]);
        let declared = items(source, Language::C);
        assert!(declared
            .iter()
            .any(|item| item.declared && item.names == ["four"]));
        assert!(in_c(source, "mmap")[0].starts_with("SYSCALL_DEFINE6(mmap,"));
    }

    #[test]
    fn a_brace_that_two_branches_open_does_not_swallow_what_follows() {
        let source = "\
#ifdef A
int f(int a)
{
	if (a) {
#else
int f(int a, int b)
{
	if (b) {
#endif
		return 1;
	}
	return 0;
}

int g(void)
{
	return 0;
}
";
        assert_eq!(in_c(source, "g"), ["int g(void)\n{\n\treturn 0;\n}"]);
    }

    #[test]
    fn both_variants_of_a_function_are_found() {
        let source = "\
#ifdef CONFIG_X
int f(int a)
{
	return a;
}
#else
static inline int f(int a) { return 0; }
#endif
";
        assert_eq!(in_c(source, "f").len(), 2);
    }

    #[test]
    fn macros_with_all_their_lines() {
        let source = "#define ONE 1\n# define two(a, b) \\\n\tdo { one(a); } while (0)\n#undef ONE\nint x;\n";
        assert_eq!(in_c(source, "ONE"), ["#define ONE 1"]);
        assert_eq!(
            in_c(source, "two"),
            ["# define two(a, b) \\\n\tdo { one(a); } while (0)"]
        );
        assert_eq!(in_c(source, "x"), ["int x;"]);
    }

    #[test]
    fn types_variables_and_enumerators() {
        let source = "\
struct file_operations {
	int (*mmap)(struct file *, struct vm_area_struct *);
	struct { int deep; } inside;
} __randomize_layout;

enum lockdown_reason {
	LOCKDOWN_NONE,
	LOCKDOWN_TRACEFS = 3, /* , */
	LOCKDOWN_MAX
};
typedef unsigned long vm_flags_t;
typedef int (*callback_t)(void *);
typedef struct { int counter; } atomic_t;
static const struct file_operations dma_buf_fops = {
	.mmap = dma_buf_mmap_internal,
};
static const char *names[2] = { \"a\", \"b\" };
static DEFINE_MUTEX(misc_mtx);
extern int elsewhere;
";
        let operations = in_c(source, "file_operations");
        assert!(operations.len() == 1 && operations[0].ends_with("__randomize_layout;"));
        assert_eq!(in_c(source, "LOCKDOWN_TRACEFS"), ["LOCKDOWN_TRACEFS = 3"]);
        assert_eq!(in_c(source, "LOCKDOWN_MAX").len(), 1);
        assert_eq!(in_c(source, "lockdown_reason").len(), 1);
        for name in ["vm_flags_t", "callback_t", "atomic_t", "names", "misc_mtx"] {
            assert_eq!(in_c(source, name).len(), 1, "{name}");
        }
        assert!(in_c(source, "dma_buf_fops")[0].ends_with("};"));
        assert_eq!(in_c(source, "elsewhere"), [""; 0]);
        assert_eq!(in_c(source, "dma_buf_mmap_internal"), [""; 0]);
    }

    #[test]
    fn rust_items_and_what_only_looks_like_them() {
        let source = r##"
// fn no() {}
const TEXT: &str = r#"fn neither() { " "#;
impl<T> ReadFile<T> {
    pub(crate) const FILE_OPS: FileOps<T> = {
        let operations = f('{', "}");
        operations
    };
    pub fn one<'a>(&'a self) -> &'a T {
        &self.0
    }
}
macro_rules! dev_printk { ($a:expr) => { $a } }
pub struct Two(u32);
"##;
        let defined = |name| defined(source, Language::Rust, name);
        assert_eq!(defined("no"), [""; 0]);
        assert_eq!(defined("neither"), [""; 0]);
        assert!(defined("FILE_OPS")[0]
            .trim_end()
            .ends_with("operations\n    };"));
        assert_eq!(
            defined("one"),
            ["    pub fn one<'a>(&'a self) -> &'a T {\n        &self.0\n    }"]
        );
        assert_eq!(defined("dev_printk").len(), 1);
        assert_eq!(defined("Two"), ["pub struct Two(u32);"]);
    }
}

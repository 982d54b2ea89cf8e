//! Where the kernel's structures have their fields, from its own description of its types (`/sys/kernel/btf/vmlinux`;
//! the format is that of `Documentation/bpf/btf.rst`).
//!
//! Kernels before 6.9 do not know `vma->vm_flags` in a probe's definition; an offset that is written out they all know.

use std::{collections::BTreeMap, fs, sync::OnceLock};

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
/// `TYPEDEF`, `VOLATILE`, `CONST`, `RESTRICT`, `TYPE_TAG`: another name for a type.
const OTHER_NAMES: [u32; 5] = [8, 9, 10, 11, 18];

/// A field of a structure.
#[derive(Clone, Copy, Debug)]
struct Member {
    name: u32,
    kind: u32,
    bits: u32,
}

#[derive(Debug)]
enum Type {
    Composite { bytes: u32, members: Vec<Member> },
    Alias(u32),
    Other,
}

/// The types of a kernel.
#[derive(Debug)]
pub struct Btf {
    types: Vec<Type>,
    strings: Vec<u8>,
    composites: BTreeMap<String, u32>,
}

impl Btf {
    /// Those of the running kernel, if it tells; read once.
    pub fn running() -> Option<&'static Self> {
        static RUNNING: OnceLock<Option<Btf>> = OnceLock::new();
        let read = || Self::of(&fs::read("/sys/kernel/btf/vmlinux").ok()?);
        RUNNING.get_or_init(read).as_ref()
    }

    /// The same, from its bytes.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if u16::from_le_bytes(bytes.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let word = |at: usize| -> Option<u32> {
            Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
        };
        let header = usize::try_from(word(4)?).ok()?;
        let part = |offset: usize, length: usize| -> Option<&[u8]> {
            let start = header + usize::try_from(word(offset)?).ok()?;
            bytes.get(start..start + usize::try_from(word(length)?).ok()?)
        };
        let types = part(8, 12)?;
        let strings = part(16, 20)?.to_vec();
        let mut btf = Self {
            // Type 0 is void.
            types: vec![Type::Other],
            strings,
            composites: BTreeMap::new(),
        };
        btf.parse(types)?;
        Some(btf)
    }

    fn parse(&mut self, bytes: &[u8]) -> Option<()> {
        let word = |at: usize| -> Option<u32> {
            Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
        };
        let mut at = 0;
        while at < bytes.len() {
            let (name, info, size) = (word(at)?, word(at + 4)?, word(at + 8)?);
            at += 12;
            let count = usize::try_from(info & 0xffff).ok()?;
            let kind = (info >> 24) & 0x1f;
            // With the flag, the upper bits of an offset are the width of a bit field.
            let mask = if info >> 31 == 1 { 0xff_ffff } else { u32::MAX };
            let (entry, extra) = match kind {
                KIND_STRUCT | KIND_UNION => {
                    let members = (0..count)
                        .map(|member| {
                            let at = at + member * 12;
                            Some(Member {
                                name: word(at)?,
                                kind: word(at + 4)?,
                                bits: word(at + 8)? & mask,
                            })
                        })
                        .collect::<Option<Vec<_>>>()?;
                    let number = u32::try_from(self.types.len()).ok()?;
                    let name = self.string(name).unwrap_or_default().to_owned();
                    self.composites.entry(name).or_insert(number);
                    let composite = Type::Composite {
                        bytes: size,
                        members,
                    };
                    (composite, 12 * count)
                }
                kind if OTHER_NAMES.contains(&kind) => (Type::Alias(size), 0),
                // INT, VAR, DECL_TAG
                1 | 14 | 17 => (Type::Other, 4),
                // ARRAY
                3 => (Type::Other, 12),
                // ENUM, FUNC_PROTO
                6 | 13 => (Type::Other, 8 * count),
                // DATASEC, ENUM64
                15 | 19 => (Type::Other, 12 * count),
                // PTR, FWD, FUNC, FLOAT
                2 | 7 | 12 | 16 => (Type::Other, 0),
                _ => return None,
            };
            self.types.push(entry);
            at += extra;
        }
        Some(())
    }

    fn string(&self, at: u32) -> Option<&str> {
        let rest = self.strings.get(usize::try_from(at).ok()?..)?;
        let end = rest.iter().position(|&byte| byte == 0)?;
        std::str::from_utf8(rest.get(..end)?).ok()
    }

    fn composite(&self, mut number: u32) -> Option<(u32, &[Member])> {
        // No chain of other names is so long.
        for _ in 0..16 {
            match self.types.get(usize::try_from(number).ok()?)? {
                Type::Composite { bytes, members } => return Some((*bytes, members)),
                Type::Alias(other) => number = *other,
                Type::Other => return None,
            }
        }
        None
    }

    /// How many bytes a structure has.
    pub fn size(&self, structure: &str) -> Option<u64> {
        let number = *self.composites.get(structure)?;
        Some(u64::from(self.composite(number)?.0))
    }

    /// The byte at which a field begins: `f_path.dentry` of `file`.
    pub fn offset(&self, structure: &str, path: &str) -> Option<u64> {
        let mut number = *self.composites.get(structure)?;
        let mut bits = 0;
        for name in path.split('.') {
            let (at, kind) = self.member(number, name, 0)?;
            bits += at;
            number = kind;
        }
        (bits % 8 == 0).then_some(u64::from(bits / 8))
    }

    /// A field by its name, in structures without a name too: its place in bits, and its type.
    fn member(&self, number: u32, name: &str, depth: u32) -> Option<(u32, u32)> {
        if depth > 8 {
            return None;
        }
        let (_, members) = self.composite(number)?;
        members.iter().find_map(|member| {
            let own = self.string(member.name)?;
            if own == name {
                return Some((member.bits, member.kind));
            }
            if !own.is_empty() {
                return None;
            }
            let (at, kind) = self.member(member.kind, name, depth + 1)?;
            Some((member.bits + at, kind))
        })
    }

    /// Puts offsets into a probe's definition: `+{file:f_path.dentry}` becomes `+80`, `{page}` a structure's size. Words
    /// with a field that this kernel does not have are left out. `+{file:a-b}` leads from the field `b` to the field `a`.
    pub fn fill_in(types: Option<&Self>, template: &str) -> String {
        let words = template
            .split_whitespace()
            .filter_map(|word| Self::fill_in_word(types, word));
        words.collect::<Vec<_>>().join(" ")
    }

    fn fill_in_word(types: Option<&Self>, word: &str) -> Option<String> {
        let mut text = String::new();
        let mut rest = word;
        while let Some((before, after)) = rest.split_once('{') {
            let (field, after) = after.split_once('}')?;
            let (structure, path) = field.split_once(':')?;
            text.push_str(before);
            let offset = |path| i64::try_from(types?.offset(structure, path)?).ok();
            // From a field to another one of the same structure.
            let offset = match path.split_once('-') {
                Some((to, from)) => offset(to)? - offset(from)?,
                None => offset(path)?,
            };
            if offset < 0 && text.ends_with('+') {
                text.pop();
            }
            text.push_str(&offset.to_string());
            rest = after;
        }
        text.push_str(rest);
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes() -> Vec<u8> {
        // struct a { int x; union { int y; struct b z; }; }; struct b { int v, w; };
        let strings = b"\0a\0x\0y\0z\0b\0v\0w\0";
        let word = |value: u32| value.to_le_bytes().to_vec();
        let types: Vec<u8> = [
            // 1: int
            vec![0, 1 << 24, 4, 32],
            // 2: struct a, of x and 3
            vec![1, (4 << 24) | 2, 12, 3, 1, 0, 0, 3, 32],
            // 3: union of y and z
            vec![0, (5 << 24) | 2, 8, 5, 1, 0, 7, 5, 0],
            // 4: struct b, of v and w
            vec![9, (4 << 24) | 2, 8, 11, 1, 0, 13, 1, 32],
            // 5: const 4
            vec![0, 10 << 24, 4],
        ]
        .concat()
        .into_iter()
        .flat_map(word)
        .collect();
        let mut all = vec![0x9f, 0xeb, 1, 0];
        let length = |bytes: usize| word(u32::try_from(bytes).unwrap());
        all.extend(word(24));
        all.extend(word(0));
        all.extend(length(types.len()));
        all.extend(length(types.len()));
        all.extend(length(strings.len()));
        all.extend(types);
        all.extend(strings);
        all
    }

    #[test]
    fn fields_are_found_in_structures_without_a_name_too() {
        let btf = Btf::of(&bytes()).unwrap();
        assert_eq!(btf.offset("a", "x"), Some(0));
        assert_eq!(btf.offset("a", "y"), Some(4));
        assert_eq!(btf.offset("a", "z.w"), Some(8));
        assert_eq!(btf.offset("a", "q"), None);
        assert_eq!((btf.size("a"), btf.size("c")), (Some(12), None));
    }

    #[test]
    fn words_that_cannot_be_filled_in_are_left_out() {
        let btf = Btf::of(&bytes());
        let template = "one=+{a:z.w}(+{a:y}($arg1)):x64 two=+{a:q}($arg1) three=$arg2";
        assert_eq!(
            Btf::fill_in(btf.as_ref(), template),
            "one=+8(+4($arg1)):x64 three=$arg2"
        );
        assert_eq!(Btf::fill_in(None, template), "three=$arg2");
        let between = "one=+{a:z-x}($arg1) two=+{a:x-z.w}($arg1)";
        assert_eq!(
            Btf::fill_in(btf.as_ref(), between),
            "one=+4($arg1) two=-8($arg1)"
        );
    }
}

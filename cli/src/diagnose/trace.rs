//! Lines of `trace_pipe`, read.

use super::probes::nr;
use std::collections::BTreeMap;

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The thread.
    pub thread: i32,
    /// When, in microseconds.
    pub time: u64,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A system call begins.
    Enter {
        /// Its number.
        number: u64,
        /// Its arguments.
        arguments: Vec<u64>,
    },
    /// A system call ends.
    Exit {
        /// Its number.
        number: u64,
        /// Its result.
        result: i64,
    },
    /// A function that is watched returned, or began and did not come to its end.
    Call(Call),
    /// A run of pages went back to the page allocator.
    Free {
        /// Its first frame.
        pfn: u64,
        /// How many frames there are.
        pages: u64,
    },
    /// A run of pages came from the page allocator.
    Alloc {
        /// Its first frame.
        pfn: u64,
        /// How many frames there are.
        pages: u64,
    },
    /// A thread or process was made.
    Born {
        /// Its number.
        thread: i32,
        /// What it shares with its maker (`clone`).
        flags: u64,
    },
    /// A process has become another program, and has no mapping of before.
    Executed,
    /// A thread ends, and still has its memory.
    End,
}

/// A call of a watched function.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Call {
    /// The event's name: the function's.
    pub function: String,
    /// Where it was called from: `symbol+offset [module]`.
    pub caller: String,
    /// What was recorded.
    pub fields: BTreeMap<String, String>,
    /// When, in microseconds.
    pub time: u64,
    /// By which thread.
    pub thread: i32,
    /// It began, and nothing was seen of its end.
    pub unfinished: bool,
}

impl Call {
    /// A number that was recorded; a result is negative as the kernel has it.
    pub fn number(&self, name: &str) -> Option<u64> {
        number(self.fields.get(name)?)
    }

    /// The same, 0 where it is missing.
    pub fn get(&self, name: &str) -> u64 {
        self.number(name).unwrap_or(0)
    }

    /// What the function returned.
    pub fn result(&self) -> i64 {
        self.fields
            .get("ret")
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| i64::from_ne_bytes(self.get("ret").to_ne_bytes()))
    }

    /// The same as bits: what a fault handler says.
    pub fn result_bits(&self) -> u64 {
        self.get("ret")
    }

    /// A symbol or text that was recorded; `None` where the kernel could not read it.
    pub fn text(&self, name: &str) -> Option<&str> {
        let text = self.fields.get(name)?.trim_matches('"');
        (!text.is_empty() && text != "(fault)").then_some(text)
    }

    /// The `mmap` of a file, as a symbol: of a file in `/proc` the driver's own one.
    pub fn mmap(&self) -> Option<String> {
        let symbolic = |name| {
            self.text(name)
                .filter(|text| text.contains('+'))
                .map(symbol)
        };
        let own = symbolic("mmap").or_else(|| symbolic("prepare"))?;
        match symbolic("proc").filter(|_| own == "proc_reg_mmap") {
            Some(behind) => Some(behind),
            None => Some(own),
        }
    }

    /// The function that called, if it is a module's.
    pub fn module_function(&self) -> Option<String> {
        self.caller.contains('[').then(|| symbol(&self.caller))
    }
}

/// `my_mmap+0x45/0x90 [maps]` without the offset.
pub fn symbol(text: &str) -> String {
    let (name, rest) = text.split_once('+').unwrap_or((text, ""));
    match rest.split_once('[') {
        Some((_, module)) => format!("{name} [{}", module.trim()),
        None => name.to_owned(),
    }
}

/// What the names of the two events of a function end with.
pub const ENTER: &str = "_enter";
pub const END: &str = "_end";

/// What the kernel prints for an address of its trampoline for watched returns (`kretprobed` of
/// `kernel/trace/trace_output.c`).
const TRAMPOLINE: &str = "[unknown/kretprobe'd]";

/// Events that are read in rounds. What has begun in one and ends in the next is held back until then.
#[derive(Default)]
pub struct Rounds {
    held: Vec<Event>,
    /// How many rounds a thread's events were held back.
    waited: BTreeMap<i32, u32>,
}

impl Rounds {
    /// A function that did not come to its end for so many rounds does not.
    const PATIENCE: u32 = 20;

    /// The events that are complete, with those of these lines.
    pub fn take(&mut self, text: &str) -> Vec<Event> {
        let mut events = std::mem::take(&mut self.held);
        events.extend(text.lines().filter_map(line));
        events.sort_by_key(|event| event.time);
        let mut open = first_open(&events);
        self.waited.retain(|thread, _| open.contains_key(thread));
        open.retain(|thread, _| {
            let waited = self.waited.entry(*thread).or_default();
            *waited += 1;
            *waited <= Self::PATIENCE
        });
        let mut whole = Vec::with_capacity(events.len());
        for (at, event) in events.into_iter().enumerate() {
            match open.get(&event.thread) {
                Some(first) if at >= *first => self.held.push(event),
                _ => whole.push(event),
            }
        }
        let mut whole = paired(whole);
        find_callers(&mut whole);
        whole
    }
}

/// For each thread the place of the first event whose other half has not come yet.
fn first_open(events: &[Event]) -> BTreeMap<i32, usize> {
    let mut begun: BTreeMap<(i32, &str), Vec<usize>> = BTreeMap::new();
    let mut last: BTreeMap<i32, usize> = BTreeMap::new();
    for (at, event) in events.iter().enumerate() {
        let What::Call(call) = &event.what else {
            continue;
        };
        if let Some(name) = call.function.strip_suffix(ENTER) {
            begun.entry((event.thread, name)).or_default().push(at);
        } else if let Some(name) = call.function.strip_suffix(END) {
            begun.entry((event.thread, name)).or_default().pop();
        }
        // The next one tells who called.
        if call.caller == TRAMPOLINE {
            last.insert(event.thread, at);
        } else {
            last.remove(&event.thread);
        }
    }
    let mut open = last;
    for ((thread, _), places) in begun {
        if let Some(&first) = places.first() {
            let place = open.entry(thread).or_insert(first);
            *place = first.min(*place);
        }
    }
    open
}

/// All events, in the order of their time.
pub fn parse(text: &str) -> Vec<Event> {
    parse_with(text, &[])
}

/// The same, with others that are known otherwise.
pub fn parse_with(text: &str, others: &[Event]) -> Vec<Event> {
    let mut events: Vec<_> = text.lines().filter_map(line).collect();
    events.extend_from_slice(others);
    // Buffers of several processors are read one after the other. What has the same time stays as it is.
    events.sort_by_key(|event| event.time);
    let mut events = paired(events);
    find_callers(&mut events);
    events
}

/// Where a watched function ends by a jump to another one, that one returns for both, to the kernel's trampoline: so its
/// event does not know who called (`__kretprobe_trampoline`). The event of the first one comes next, and knows.
fn find_callers(events: &mut [Event]) {
    let mut next = BTreeMap::new();
    for event in events.iter_mut().rev() {
        if let What::Call(call) = &mut event.what {
            if call.caller == TRAMPOLINE {
                call.caller = next.get(&call.thread).cloned().unwrap_or_default();
            }
            next.insert(call.thread, call.caller.clone());
        }
    }
}

/// Puts the two events of a function together. A call is where it ended; one that did not end is where it began.
fn paired(events: Vec<Event>) -> Vec<Event> {
    let mut open: Vec<usize> = Vec::new();
    let mut all: Vec<Option<Event>> = Vec::with_capacity(events.len());
    for mut event in events {
        if let What::Call(call) = &mut event.what {
            if let Some(name) = call.function.strip_suffix(ENTER) {
                call.function = name.to_owned();
                call.unfinished = true;
                open.push(all.len());
            } else if let Some(name) = call.function.strip_suffix(END) {
                call.function = name.to_owned();
                let begun = open.iter().rposition(|&at| {
                    matches!(all.get(at), Some(Some(Event { thread, what: What::Call(begun), .. }))
                        if *thread == call.thread && begun.function == call.function)
                });
                let begun = begun
                    .and_then(|at| all.get_mut(open.remove(at)))
                    .and_then(Option::take);
                if let Some(What::Call(begun)) = begun.map(|event| event.what) {
                    for (name, value) in begun.fields {
                        call.fields.entry(name).or_insert(value);
                    }
                }
            }
        }
        all.push(Some(event));
    }
    all.into_iter().flatten().collect()
}

/// `  name-123   [001]   12.345678: event: text`; the name may have anything in it.
fn line(line: &str) -> Option<Event> {
    let bracket = line
        .match_indices(" [")
        .map(|(at, _)| at)
        .find(|&at| line.get(at + 5..at + 6) == Some("]"))?;
    let (task, rest) = line.split_at(bracket);
    let thread = task.trim_end().rsplit_once('-')?.1.parse().ok()?;
    let rest = rest.get(6..)?;
    let (time, rest) = rest.split_once(": ")?;
    let time = time.split_whitespace().last()?;
    let (seconds, micros) = time.split_once('.')?;
    let time = seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?;
    if let Some(what) = system_call(rest) {
        return Some(Event { thread, time, what });
    }
    let (name, text) = rest.split_once(": ")?;
    let what = match name {
        "sys_enter" => {
            let (number, arguments) = text.strip_prefix("NR ")?.split_once(" (")?;
            What::Enter {
                number: number.parse().ok()?,
                arguments: arguments
                    .trim_end()
                    .trim_end_matches(')')
                    .split(", ")
                    .filter_map(|word| u64::from_str_radix(word, 16).ok())
                    .collect(),
            }
        }
        "sys_exit" => {
            let (number, result) = text.strip_prefix("NR ")?.split_once(" = ")?;
            What::Exit {
                number: number.parse().ok()?,
                result: result.trim().parse().ok()?,
            }
        }
        "mm_page_free" => {
            let fields = fields(text);
            let order = fields.get("order").and_then(|text| number(text))?;
            What::Free {
                pfn: number(fields.get("pfn")?)?,
                pages: 1_u64.checked_shl(u32::try_from(order).ok()?)?,
            }
        }
        "mm_page_alloc" => {
            let fields = fields(text);
            let order = fields.get("order").and_then(|text| number(text))?;
            What::Alloc {
                pfn: number(fields.get("pfn")?)?,
                pages: 1_u64.checked_shl(u32::try_from(order).ok()?)?,
            }
        }
        "task_newtask" => {
            let fields = fields(text);
            What::Born {
                thread: fields.get("pid")?.parse().ok()?,
                flags: u64::from_str_radix(fields.get("clone_flags")?, 16).ok()?,
            }
        }
        "sched_process_exit" => What::End,
        "sched_process_exec" => What::Executed,
        function => {
            let (place, rest) = text.strip_prefix('(')?.split_once(')')?;
            // At its beginning a function is where it is, and nobody is known to have called it.
            let caller = place.split_once(" <- ").map_or("", |(caller, _)| caller);
            What::Call(Call {
                function: function.to_owned(),
                caller: caller.to_owned(),
                fields: fields(rest),
                time,
                thread,
                unfinished: false,
            })
        }
    };
    Some(Event { thread, time, what })
}

/// `sys_munmap(addr: 0x7f0000, len: 0x1000)` and `sys_munmap -> 0x0`: events of one system call (`kernel/trace/trace_syscalls.c`).
fn system_call(text: &str) -> Option<What> {
    let hex = |word: &str| u64::from_str_radix(word.trim().trim_start_matches("0x"), 16).ok();
    if let Some((name, result)) = text.split_once(" -> ") {
        let number = call_number(name)?;
        let result = i64::from_ne_bytes(hex(result)?.to_ne_bytes());
        return Some(What::Exit { number, result });
    }
    let (name, arguments) = text.split_once('(')?;
    let arguments = arguments.trim_end().strip_suffix(')')?.split(", ");
    Some(What::Enter {
        number: call_number(name)?,
        arguments: arguments
            .filter_map(|word| hex(word.split_once(": ")?.1))
            .collect(),
    })
}

fn call_number(name: &str) -> Option<u64> {
    match name {
        "sys_mmap" => Some(nr::MMAP),
        "sys_munmap" => Some(nr::MUNMAP),
        _ => None,
    }
}

/// `a=1 b=symbol+0x0/0x5 [module] c="two words"`
fn fields(text: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut last: Option<String> = None;
    for word in text.split(' ') {
        match word.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                fields.insert(name.to_owned(), value.to_owned());
                last = Some(name.to_owned());
            }
            _ => {
                if let Some(value) = last.as_ref().and_then(|name| fields.get_mut(name)) {
                    value.push(' ');
                    value.push_str(word);
                }
            }
        }
    }
    for value in fields.values_mut() {
        value.truncate(value.trim_end().len());
    }
    fields
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text
            .parse()
            .ok()
            .or_else(|| Some(u64::from_ne_bytes(text.parse::<i64>().ok()?.to_ne_bytes()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_system_call_are_read() {
        let text = " p-7 [000] 1.000001: sys_munmap(addr: 0x7f0000, len: 8)\n\
            p-7 [000] 1.000002: sys_munmap -> 0x0\n\
            p-7 [000] 1.000003: sys_mmap -> 0x7ffff7fc0000\n\
            p-7 [000] 1.000004: sched_process_exec: filename=/a b pid=7 old_pid=7\n";
        let all: Vec<_> = parse(text).into_iter().map(|event| event.what).collect();
        assert_eq!(
            all,
            [
                What::Enter {
                    number: nr::MUNMAP,
                    arguments: vec![0x7f_0000, 8]
                },
                What::Exit {
                    number: nr::MUNMAP,
                    result: 0
                },
                What::Exit {
                    number: nr::MMAP,
                    result: 0x7fff_f7fc_0000
                },
                What::Executed,
            ]
        );
    }

    #[test]
    fn two_events_of_a_function_become_one_call() {
        let text = " p-7 [000] 1.000001: vm_insert_page_enter: (vm_insert_page+0x0/0x9) addr=0x7000 page=0x40\n\
            q-8 [000] 1.000002: vm_insert_page_enter: (vm_insert_page+0x0/0x9) addr=0x9000\n\
            p-7 [000] 1.000003: vm_insert_page_end: (my_mmap+0x4/0x9 [maps] <- vm_insert_page) ret=-22\n\
            p-7 [000] 1.000004: task_newtask: pid=9 comm=a b clone_flags=1200011 oom_score_adj=0\n";
        let events = parse(text);
        let [Event {
            what: What::Call(open),
            ..
        }, Event {
            what: What::Call(whole),
            ..
        }, born] = &events[..]
        else {
            panic!("{events:?}")
        };
        assert!(open.unfinished && open.thread == 8 && !whole.unfinished);
        assert_eq!((whole.get("addr"), whole.result()), (0x7000, -22));
        assert_eq!(whole.module_function().as_deref(), Some("my_mmap [maps]"));
        assert_eq!(
            born.what,
            What::Born {
                thread: 9,
                flags: 0x120_0011
            }
        );
    }

    #[test]
    fn a_call_that_is_split_between_rounds_is_one_call() {
        let mut rounds = Rounds::default();
        let enter =
            " p-7 [000] 1.000001: vm_insert_page_enter: (vm_insert_page+0x0/0x9) addr=0x7000\n\
            q-8 [000] 1.000002: sys_exit: NR 9 = -22\n";
        let end = " p-7 [000] 1.000003: vm_insert_page_end: (my_mmap+0x4/0x9 [maps] <- vm_insert_page) ret=-22\n\
            p-7 [000] 1.000004: sys_exit: NR 9 = -22\n";
        let first = rounds.take(enter);
        assert!(matches!(&first[..], [Event { thread: 8, .. }]), "{first:?}");
        let second = rounds.take(end);
        let [Event {
            what: What::Call(call),
            ..
        }, Event {
            what: What::Exit { .. },
            ..
        }] = &second[..]
        else {
            panic!("{second:?}")
        };
        assert_eq!(
            (call.get("addr"), call.result(), call.unfinished),
            (0x7000, -22, false)
        );
        // One that never ends is told of all the same.
        rounds.take(
            " p-7 [000] 2.000001: vm_insert_page_enter: (vm_insert_page+0x0/0x9) addr=0x8000\n",
        );
        let told = (0..Rounds::PATIENCE).flat_map(|_| rounds.take("")).count();
        assert_eq!(told, 1);
    }

    #[test]
    fn a_function_that_was_jumped_to_has_the_caller_of_the_one_that_jumped() {
        let text = " p-7 [000] 1.000001: vmf_insert_pfn_prot: ([unknown/kretprobe'd] <- vmf_insert_pfn_prot) ret=0x2\n\
            q-8 [000] 1.000001: vm_insert_page: (other+0x1/0x9 [b] <- vm_insert_page) ret=0x0\n\
            p-7 [000] 1.000002: vmf_insert_pfn: (my_fault+0x4/0x9 [a] <- vmf_insert_pfn) ret=0x2\n\
            p-7 [000] 1.000003: vm_insert_page: ([unknown/kretprobe'd] <- vm_insert_page) ret=0x0\n";
        let callers: Vec<_> = parse(text)
            .into_iter()
            .map(|event| match event.what {
                What::Call(call) => call.module_function().unwrap_or_default(),
                _ => String::new(),
            })
            .collect();
        assert_eq!(callers, ["my_fault [a]", "other [b]", "my_fault [a]", ""]);
    }

    #[test]
    fn lines_of_the_kernel_are_read() {
        let text = "        my-prog [a]-110   [001]    12.934903: sys_enter: NR 9 (0, 10000, 3, 1, 3, 100100000)\n\
            x-110  [000] ...1.  12.9: bad\n\
            prog-110     [001] ...1.    12.983938: remap_pfn_range: (my_mmap+0x48a/0x670 [maps] <- remap_pfn_range) \
            addr=0x7000 pfn=0x10 size=0x1000 ret=-22 flags=0xfb\n\
            prog-110     [001]    12.984009: sys_exit: NR 9 = -2\n\
            prog-110     [001]    12.99: mm_page_free: page=000000007c pfn=0x4027 order=2\n\
            prog-110     [001]    12.983000: mmap_region: (do_mmap+0x1/0x2 <- mmap_region) ret=0x7fff mmap=f+0x0/0x2 [m] name=\"a b\"\n";
        let events = parse(text);
        assert_eq!(events.len(), 5);
        assert_eq!(
            events[0].what,
            What::Free {
                pfn: 0x4027,
                pages: 4
            },
            "99 microseconds"
        );
        let What::Call(region) = &events[2].what else {
            panic!("{events:?}")
        };
        assert_eq!(region.text("name"), Some("a b"));
        assert_eq!(region.text("mmap").map(symbol).as_deref(), Some("f [m]"));
        let What::Call(call) = &events[3].what else {
            panic!("{events:?}")
        };
        assert_eq!(call.module_function().as_deref(), Some("my_mmap [maps]"));
        assert_eq!((call.result(), call.get("flags")), (-22, 0xfb));
        assert!(
            matches!(&events[1].what, What::Enter { number: 9, arguments } if arguments.len() == 6)
        );
        assert_eq!(
            events[4].what,
            What::Exit {
                number: 9,
                result: -2
            }
        );
    }
}

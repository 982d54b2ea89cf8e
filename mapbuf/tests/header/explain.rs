//! `include/mapbuf-explain.h`: the sentences of `abi/src/explain.rs`, and the C that puts the operands into them.

use mapbuf::{
    abi::{Cache, Direction, IrqKind, Kind, Method, Operation},
    Reason,
};
use std::fmt::Write;

const HEAD: &str = r#"/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a refusal of the mapbuf driver means, in words. Made from abi/: do not edit.
 *
 *     if (ioctl(fd, MAPBUF_IOCTL_ALLOC, &alloc) < 0) {
 *         char text[512];
 *         mapbuf_explain_last(fd, text, sizeof(text));
 *         fprintf(stderr, "%s\n", text);
 *     }
 */

#ifndef MAPBUF_EXPLAIN_H
#define MAPBUF_EXPLAIN_H

#include "mapbuf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

"#;

const TAIL: &str = r#"/* Appends an operand to the text at `to`, and returns the place behind it. */
static inline size_t mapbuf_explain_operand(char *to, size_t size, size_t at, uint64_t value, const char *form)
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB" };
	char *end = at < size ? to + at : NULL;
	size_t room = at < size ? size - at : 0;
	unsigned long long number = value;
	const char *name = NULL;
	int written, unit;

	if (value <= UINT32_MAX) {
		if (!strcmp(form, "kind"))
			name = mapbuf_kind_name((uint32_t)value);
		else if (!strcmp(form, "cache"))
			name = mapbuf_cache_name((uint32_t)value);
		else if (!strcmp(form, "method"))
			name = mapbuf_method_name((uint32_t)value);
		else if (!strcmp(form, "operation"))
			name = mapbuf_operation_name((uint32_t)value);
		else if (!strcmp(form, "irq"))
			name = mapbuf_irq_kind_name((uint32_t)value);
		else if (!strcmp(form, "direction"))
			name = mapbuf_direction_name((uint32_t)value);
	}
	if (name) {
		written = snprintf(end, room, "%s", name);
	} else if (!strcmp(form, "bytes")) {
		for (unit = 3; unit >= 0; unit--)
			if (value && value % (1ull << (10 * (unit + 1))) == 0)
				break;
		if (unit >= 0)
			written = snprintf(end, room, "%llu %s", number >> (10 * (unit + 1)), units[unit]);
		else
			written = snprintf(end, room, "%llu bytes", number);
	} else if (!strcmp(form, "hex")) {
		written = snprintf(end, room, "0x%llx", number);
	} else if (!strcmp(form, "octal")) {
		written = snprintf(end, room, "0o%llo", number);
	} else if (!strcmp(form, "pci")) {
		written = snprintf(end, room, "%04llx:%02llx:%02llx.%llu", number >> 16, number >> 8 & 0xff,
				   number >> 3 & 0x1f, number & 7);
	} else if (!strcmp(form, "signed")) {
		written = snprintf(end, room, "%lld", (long long)value);
	} else if (!strcmp(form, "char") && value >= 0x20 && value < 0x7f) {
		written = snprintf(end, room, "'%c'", (int)value);
	} else if (!strcmp(form, "char")) {
		written = snprintf(end, room, "0x%llx", number);
	} else {
		written = snprintf(end, room, "%llu", number);
	}
	return at + (written > 0 ? (size_t)written : 0);
}

/*
 * Writes "what happened; what to do next" into `to`, with a zero at the end, and returns the length of the whole text
 * (as snprintf does). A reason that this header does not know is shown by its number.
 */
static inline int mapbuf_explain(const struct mapbuf_last_error *error, char *to, size_t size)
{
	const char *sentence = mapbuf_reason_sentence(error->reason);
	const char *remedy = mapbuf_reason_remedy(error->reason);
	size_t at = 0;
	int written;

	if (!sentence)
		return snprintf(to, size, "%s was refused for reason %lu, which this program does not know",
				mapbuf_operation_name(error->operation) ? mapbuf_operation_name(error->operation) : "it",
				(unsigned long)error->reason);
	while (*sentence) {
		if (*sentence == '{') {
			char form[16] = "";
			unsigned long index = strtoul(sentence + 1, NULL, 10);
			const char *stop = strchr(sentence, '}');
			const char *colon = strchr(sentence, ':');

			if (colon && stop && colon < stop)
				snprintf(form, sizeof(form), "%.*s", (int)(stop - colon - 1), colon + 1);
			if (stop && index < MAPBUF_OPERANDS) {
				at = mapbuf_explain_operand(to, size, at, error->operands[index], form);
				sentence = stop + 1;
				continue;
			}
		}
		if (at + 1 < size)
			to[at] = *sentence;
		at++;
		sentence++;
	}
	written = snprintf(at < size ? to + at : NULL, at < size ? size - at : 0, "; %s", remedy);
	if (size)
		to[size - 1] = 0;
	return (int)at + (written > 0 ? written : 0);
}

/*
 * Explains the failure of the call on `fd` that this thread has just made: by the driver's reason if `errno` is the
 * one that the driver gave, else by `errno` alone. Leaves `errno` as it was.
 */
static inline int mapbuf_explain_last(int fd, char *to, size_t size)
{
	struct mapbuf_last_error last = { .size = sizeof(last) };
	int error = errno, asked = ioctl(fd, MAPBUF_IOCTL_LAST_ERROR, &last);

	errno = error;
	if (asked == 0 && last.sequence && last.error_number == error)
		return mapbuf_explain(&last, to, size);
	return snprintf(to, size, "%s", strerror(error));
}

#endif /* MAPBUF_EXPLAIN_H */
"#;

pub fn header() -> String {
    let mut out = HEAD.to_owned();
    lookup(
        &mut out,
        "kind_name",
        Kind::ALL.iter().map(|v| (v.number(), v.name())),
    );
    lookup(
        &mut out,
        "cache_name",
        Cache::ALL.iter().map(|v| (v.number(), v.name())),
    );
    lookup(
        &mut out,
        "method_name",
        Method::ALL.iter().map(|v| (v.number(), v.name())),
    );
    lookup(
        &mut out,
        "operation_name",
        Operation::ALL.iter().map(|v| (v.number(), v.name())),
    );
    lookup(
        &mut out,
        "irq_kind_name",
        IrqKind::ALL.iter().map(|v| (v.number(), v.name())),
    );
    lookup(
        &mut out,
        "direction_name",
        Direction::ALL.iter().map(|v| (v.number(), v.name())),
    );
    lookup(
        &mut out,
        "reason_name",
        Reason::ALL.iter().map(|v| (v.number(), v.name())),
    );
    lookup(
        &mut out,
        "reason_sentence",
        Reason::ALL.iter().map(|v| (v.number(), v.text().sentence)),
    );
    lookup(
        &mut out,
        "reason_remedy",
        Reason::ALL.iter().map(|v| (v.number(), v.text().remedy)),
    );
    out + TAIL
}

/// A function from a number to a string, `NULL` for a number that is not known.
fn lookup(out: &mut String, name: &str, rows: impl Iterator<Item = (u32, &'static str)>) {
    writeln!(
        out,
        "static inline const char *mapbuf_{name}(uint32_t number)\n{{\n\tswitch (number) {{"
    )
    .unwrap();
    for (number, text) in rows {
        assert!(
            text.bytes().all(|byte| byte != b'"'
                && byte != b'\\'
                && byte.is_ascii_graphic() | (byte == b' ')),
            "{text}"
        );
        writeln!(out, "\tcase {number}:\n\t\treturn \"{text}\";").unwrap();
    }
    out.push_str("\tdefault:\n\t\treturn NULL;\n\t}\n}\n\n");
}

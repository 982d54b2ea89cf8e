# SPDX-License-Identifier: MIT OR Apache-2.0
"""The package on a node of the driver: run in a guest, with NumPy."""

import errno
import gc
import mmap
import os
import pickle
import subprocess
import unittest

import mapbuf
import numpy

PAGE = mmap.PAGESIZE


def buffers():
    """How many buffers there are."""
    with mapbuf.open() as session:
        return session.query().buffers


class Package(unittest.TestCase):
    def setUp(self):
        gc.collect()
        self.session = mapbuf.open()
        self.addCleanup(self.session.close)

    def test_every_kind_is_mapped_and_is_what_the_kernel_sees(self):
        for kind in ("vmalloc", "pages", "contiguous", "coherent"):
            with self.subTest(kind), self.session.alloc(kind, 3 * PAGE) as buffer:
                memory = buffer.map()
                self.assertEqual(memory[:], bytes(3 * PAGE))
                memory[PAGE : PAGE + 4] = b"user"
                self.assertEqual(buffer.read(PAGE, 4), b"user")
                self.assertEqual(buffer.write(2 * PAGE, b"kernel"), 6)
                self.assertEqual(memory[2 * PAGE : 2 * PAGE + 6], b"kernel")
                info = buffer.info()
                self.assertEqual((info.kind.name.lower(), info.bytes, info.mappings), (kind, 3 * PAGE, 1))
                self.assertEqual(sum(segment.length for segment in buffer.segments()), 3 * PAGE)

    def test_numpy_array_is_the_memory_itself(self):
        buffer = self.session.alloc("coherent", 1 << 20)
        array = numpy.asarray(buffer.map())
        self.assertEqual((array.dtype, array.shape), (numpy.uint8, (1 << 20,)))
        array.view("<u4")[:] = 0xAABBCCDD
        self.assertEqual(buffer.read(4096, 4), bytes.fromhex("ddccbbaa"))
        buffer.write(7, b"\x2a")
        self.assertEqual(array[7], 42)

    def test_array_of_a_named_buffer_is_what_dd_writes(self):
        self.session.alloc("pages", 4 * PAGE).name("from-python", mode=0o600)
        self.addCleanup(mapbuf.unname, "from-python")
        with mapbuf.open_named("from-python") as named:
            array = numpy.asarray(named.map(PAGE, PAGE))
            node = "/dev/mapbuf/named/from-python"
            dd = ["dd", f"of={node}", "bs=1", f"seek={PAGE + 5}", "conv=notrunc", "status=none"]
            subprocess.run(dd, input=b"\x2a", check=True)
            self.assertEqual((array[4], array[5], array[6]), (0, 42, 0))
            array[6] = 7
            self.assertEqual(named.read(PAGE + 4, 3), bytes([0, 42, 7]))
            # NumPy's own way to the same memory.
            other = numpy.memmap(node, dtype="u1", mode="r+", shape=(4 * PAGE,))
            self.assertEqual(other[PAGE + 5], 42)
            other.flush()

    def test_mapping_outlives_buffer_and_session(self):
        before = buffers()
        with mapbuf.open() as session:
            memory = session.alloc("vmalloc", PAGE).map()
            memory[0] = 1
        gc.collect()
        self.assertEqual(memory[0], 1)
        self.assertEqual(buffers(), before + 1)
        memory.close()
        self.assertEqual(buffers(), before)

    def test_id_goes_with_the_buffer(self):
        before = buffers()
        with self.session.alloc("pages", PAGE):
            self.assertEqual(buffers(), before + 1)
        self.assertEqual(buffers(), before)
        kept = self.session.alloc("pages", PAGE)
        self.assertEqual(buffers(), before + 1)
        del kept
        gc.collect()
        self.assertEqual(buffers(), before)

    def test_refusal_has_reason_values_and_advice(self):
        with self.assertRaises(mapbuf.Refused) as caught:
            self.session.alloc("pages", 0)
        refused = caught.exception
        self.assertEqual((refused.reason, refused.errno), (mapbuf.Reason.ZERO_BYTES, errno.EINVAL))
        self.assertIn("at least 1 byte", refused.advice)
        self.assertIn(refused.advice, str(refused))
        again = pickle.loads(pickle.dumps(refused))
        self.assertEqual((again.reason, str(again)), (refused.reason, str(refused)))

    def test_refused_mmap_has_the_drivers_reason(self):
        buffer = self.session.alloc("pages", 16 * PAGE)
        with self.assertRaises(mapbuf.Refused) as caught:
            buffer.map(PAGE, 16 * PAGE)
        self.assertEqual(caught.exception.reason, mapbuf.Reason.BEYOND_END)
        self.assertEqual(caught.exception.operands[:3], (PAGE, 16 * PAGE, 16 * PAGE))

    def test_refusal_of_the_core_is_not_the_drivers_last_one(self):
        buffer = self.session.alloc("pages", PAGE)
        with self.assertRaises(mapbuf.Refused):
            buffer.map(PAGE, PAGE)
        reader = mapbuf.open(writable=False)
        self.addCleanup(reader.close)
        with self.assertRaises(mapbuf.Error) as caught:
            reader._node.attempt(
                mapbuf._abi.Operation.MMAP,
                lambda fd: mmap.mmap(fd, PAGE, flags=mmap.MAP_SHARED, prot=mmap.PROT_WRITE, offset=PAGE),
            )
        self.assertNotIsInstance(caught.exception, mapbuf.Refused)
        self.assertEqual(caught.exception.errno, errno.EACCES)

    def test_method_is_the_one_that_was_named(self):
        buffer = self.session.alloc("contiguous", 4 * PAGE)
        memory = buffer.map(method="remap")
        memory[0] = 9
        self.assertEqual(buffer.read(0, 1), b"\x09")
        with self.assertRaises(mapbuf.Refused) as caught:
            buffer.map(method="vmalloc")
        self.assertEqual(caught.exception.reason, mapbuf.Reason.NEEDS_VMALLOC)
        with self.assertRaisesRegex(ValueError, "remap-each"):
            buffer.map(method="nonsense")

    def test_private_mapping_keeps_its_writes(self):
        buffer = self.session.alloc("pages", PAGE)
        memory = buffer.map(private=True)
        memory[0] = 1
        self.assertEqual(buffer.read(0, 1), b"\0")

    def test_descriptor_is_imported_by_another_session(self):
        fd = self.session.alloc("vmalloc", PAGE).export()
        self.addCleanup(os.close, fd)
        with mapbuf.open() as other:
            other.import_fd(fd).write(3, b"x")
        self.assertEqual(mmap.mmap(fd, PAGE)[3:4], b"x")

    def test_cpu_access_is_a_context(self):
        buffer = self.session.alloc("coherent", PAGE)
        with buffer.cpu_access("from-device"):
            self.assertEqual(buffer.map()[0], 0)

    def test_closed_session_says_so(self):
        self.session.close()
        with self.assertRaisesRegex(ValueError, "was closed"):
            self.session.alloc("pages", PAGE)

    def test_what_is_no_node_is_refused(self):
        with self.assertRaises(mapbuf.NotANode):
            mapbuf.open("/dev/null")
        with self.assertRaises(mapbuf.Error) as caught:
            mapbuf.open_named("nobody")
        self.assertEqual(caught.exception.errno, errno.ENOENT)


if __name__ == "__main__":
    unittest.main()

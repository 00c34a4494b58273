"""Commands of gdb for programs with crore: coroutines and their stacks, of a process that
is stopped and of a core file. A program with debug information has this script in it, and
gdb loads it where `add-auto-load-safe-path` lets it.

    (gdb) source scripts/gdb/crore.py
    (gdb) crore list
    (gdb) crore bt 1:2:0

It wants debug information of crore: a debug build, or in Cargo.toml

    [profile.release.package.crore]
    debug = 2

On x86_64. It reads the memory of the program and calls nothing there. Of a coroutine whose
frames are on the heap (a shared stack that another one uses) it puts the frames back
while it looks: in a process it writes its stack and then what was there before, of a core
file it takes a copy.
"""

import os
import re
import shutil
import struct
import tempfile

import gdb
import gdb.unwinder

STATES = ["free", "not started", "runnable", "running", "parked", "runnable"]
CANCELLED, SHARED, POLLED, OWN_TLS = 4, 8, 32, 128
SEGMENT_BYTES = 2 << 20
CACHE_LINE, COLOURS = 64, 32
GRANULE = 16
PACKED = 1 << 31
INDEX_BITS = 28


# Values of Rust.


def names(value):
    return [field.name for field in value.type.fields()]


def peel(value):
    """What is in cells, locks and wrappers."""
    while value.type.code == gdb.TYPE_CODE_STRUCT:
        inner = [name for name in ("value", "__0", "pointer") if name in names(value)]
        if not inner:
            break
        value = value[inner[0]]
    return value


def number(value):
    return int(peel(value))


def pointer_in(value):
    """The address in a smart pointer, however deep it lies there."""
    value = peel(value)
    if value.type.code != gdb.TYPE_CODE_STRUCT:
        return int(value) if value.type.code in (gdb.TYPE_CODE_PTR, gdb.TYPE_CODE_INT) else None
    for name in names(value):
        found = pointer_in(value[name])
        if found:
            return found
    return None


def items(vec):
    """Those of a `Vec`."""
    of = vec.type.template_argument(0)
    first = gdb.Value(pointer_in(vec["buf"])) if int(vec["len"]) else None
    return [at(int(first) + i * of.sizeof, of) for i in range(int(vec["len"]))]


def at(address, kind):
    return gdb.Value(address).cast(kind.pointer()).dereference()


def some(value):
    """What an `Option` or another enum has, if it is not its empty variant."""
    for field in value.type.fields():
        if field.name in ("Some", "Occupied", "Owner"):
            return value[field]["__0"]
        if field.name in ("None", "Vacant", "Idle", "Nobody"):
            return None
    raise gdb.GdbError("crore: an enum of an unknown layout: %s" % value.type)


def text(address, length):
    return bytes(gdb.selected_inferior().read_memory(address, length)).decode(errors="replace")


# What there is.


class Coroutine:
    def __init__(self, worker, index, slot):
        self.worker, self.slot = worker, slot
        self.state = STATES[int.from_bytes(bytes_of(slot["state"]), "little")]
        self.flags = number(slot["flags"])
        self.name = "%d:%d:%d" % (worker.index, index, number(slot["generation"]))

    def kind(self):
        if self.flags & POLLED:
            return "future"
        if self.flags & SHARED:
            return "shared stack"
        if self.flags & OWN_TLS:
            return "own thread-locals"
        return "own stack"


def bytes_of(value):
    return bytes(gdb.selected_inferior().read_memory(int(value.address), value.type.sizeof))


class Worker:
    def __init__(self, value):
        self.value = value
        self.index = number(value["handle"].dereference()["index"])
        self.thread = gdb.selected_thread().num

    def coroutines(self):
        slots = self.value["slots"]
        base, book = slots["base"], peel(slots["book"])
        each = SEGMENT_BYTES // base.type.target().sizeof
        for segment, one in enumerate(items(book["segments"])):
            for index in range(segment * each, segment * each + int(one["fresh"])):
                slot = (base + index).dereference()
                if bytes_of(slot["state"]) != b"\0":
                    yield Coroutine(self, index, slot)

    def given_name(self, slot):
        extra = number(slot["extra"])
        if extra == 0:
            return None
        entry = items(peel(self.value["extras"])["entries"])[extra]
        name = some(some(entry)["name"])
        if name is None:
            return None
        fields = {field.name: name[field] for field in name.type.fields()}
        fat = fields["ptr"]
        while fat.type.code == gdb.TYPE_CODE_STRUCT and "data_ptr" not in names(fat):
            fat = fat["pointer"]
        # Behind the two counters of an `Arc`.
        return text(int(fat["data_ptr"]) + 16, int(fat["length"]))

    def location(self, slot):
        place = number(slot["location"])
        location = items(peel(self.value["spawn_locations"])["all"])[place].dereference()
        file = [name for name in names(location) if name.startswith("file")][0]
        file = location[file]
        while "data_ptr" not in names(file):
            file = file[names(file)[0]]
        # std counts the zero behind the name where it keeps one.
        path = text(int(file["data_ptr"]), int(file["length"])).rstrip("\0")
        return "%s:%d:%d" % (path, int(location["line"]), int(location["col"]))

    def bounds(self, stack):
        """The lowest address of a stack of the arena, and its base."""
        size_class, index = (stack - 1) >> INDEX_BITS, (stack - 1) & ((1 << INDEX_BITS) - 1)
        one = items(peel(self.value["stacks"]["arena"])["classes"])[size_class]
        offset = index * (int(one["size"]) + int(one["guard"]))
        limit, base = int(one["ends"]["__0"]), int(one["ends"]["__1"])
        return limit + offset, base + offset - index % COLOURS * CACHE_LINE

    def stack_pointer(self, carrier):
        """Where a suspended one's registers are, of the carrier at this address."""
        kind = gdb.lookup_type("crore::switch::carrier::Carrier")
        value = at(carrier, kind)
        word = int(value["coro"].address) + 8 * number(value["sp_word"])
        return int.from_bytes(bytes(gdb.selected_inferior().read_memory(word, 8)), "little")

    def frames(self, coroutine):
        """The stack pointer, the end of the frames, and bytes to be put at the first."""
        slot, stacks = coroutine.slot, self.value["stacks"]
        size = gdb.lookup_type("crore::switch::carrier::Carrier").sizeof
        stack = number(slot["stack"])
        if not coroutine.flags & SHARED or bool(stacks["config"]["check"]):
            carrier = self.bounds(stack)[1] - size
            return self.stack_pointer(carrier), carrier, None
        shared = some(peel(stacks["shared"]))
        host = items(shared["hosts"])[stack]
        block, extent = number(slot["word_a"]), number(slot["word_b"])
        carrier = int(host["carrier"])
        if block == 0:
            return self.stack_pointer(carrier), carrier, None
        saved = int(shared["pool"]["chunks"]["base"]) + block * GRANULE
        read = gdb.selected_inferior().read_memory
        if extent & PACKED:
            held, shape = extent >> 8 & 0xFF, extent >> 16 & 0xFF
            shape = items(host["stack"]["shapes"]["all"])[shape]
            frames = unpacked(shape, bytes(read(saved, 8 * held)))
        else:
            frames = bytes(read(saved, extent))
        return int(host["stack"]["boundary"]) - len(frames), carrier, frames


def unpacked(shape, packed):
    """Frames of which only what differs from a pattern was kept: `src/stack/alike.rs`."""
    pattern = shape["pattern"]
    size = 8 * int(pattern["length"])
    frames = bytearray(gdb.selected_inferior().read_memory(int(pattern["data_ptr"]), size))
    differing = int.from_bytes(packed[:8], "little")
    places = [place for place in range(64) if differing >> place & 1]
    for at, place in enumerate(places, 1):
        frames[8 * place : 8 * place + 8] = packed[8 * at : 8 * at + 8]
    return bytes(frames)


def workers():
    """The workers of all threads."""
    found, before = {}, gdb.selected_thread()
    frame = gdb.selected_frame() if before else None
    try:
        pointers = thread_pointers()
        delta = local_of_threads(pointers)
        for thread, pointer in pointers if delta is not None else []:
            thread.switch()
            local = at(pointer + delta, gdb.lookup_type(LOCAL))
            address = pointer_in(local["worker"])
            if address:
                kind = gdb.lookup_type("crore::sched::worker::Worker")
                found.setdefault(address, Worker(at(address, kind)))
    finally:
        if before:
            before.switch()
            frame.select()
    return [found[address] for address in sorted(found)]


LOCAL = "crore::sched::worker::ThisThread"


def thread_pointers():
    """Of each thread. In a core file the thread-locals of a coroutine look like another
    thread, which has no registers."""
    pointers = []
    for thread in gdb.selected_inferior().threads():
        thread.switch()
        try:
            pointer = int(gdb.newest_frame().read_register("fs_base"))
        except (gdb.error, gdb.MemoryError):
            continue
        pointers.append((thread, pointer & (1 << 64) - 1))
    return pointers


def local_of_threads(pointers):
    """How far from a thread's pointer its `THIS_THREAD` is: the same for all, those that
    use thread-locals of a coroutine's own included."""
    language = gdb.parameter("language")
    try:
        for thread, pointer in pointers:
            thread.switch()
            for closure in range(4):
                name = "crore::sched::worker::THIS_THREAD::{constant#0}::{closure#%d}" % closure
                name += "::__RUST_STD_INTERNAL_VAL"
                try:
                    gdb.execute("set language c", to_string=True)
                    local = gdb.parse_and_eval("&'%s'" % name)
                    delta = int(local) - pointer
                except (gdb.error, gdb.MemoryError):
                    continue
                # Another number is another variable; far away is another thread's.
                if local.type.target().name == LOCAL and abs(delta) < 1 << 20:
                    return delta
    finally:
        gdb.execute("set language %s" % language, to_string=True)
    return None


def coroutines():
    return [one for worker in workers() for one in worker.coroutines()]


# A stack that is looked at.


class Suspended(gdb.unwinder.Unwinder):
    """Says of the innermost frame that a suspended coroutine has called it."""

    def __init__(self):
        super().__init__("crore")
        self.sp, self.once = None, False

    def __call__(self, frame):
        if self.sp is None or self.once:
            return None
        self.once = True
        memory = gdb.selected_inferior().read_memory(self.sp, 24)
        pc, rbx, rbp = struct.unpack("<3Q", bytes(memory))
        info = frame.create_unwind_info(FrameId(self.sp, pc))
        kind = gdb.Value(pc).type
        for register, value in (("rip", pc), ("rsp", self.sp + 24), ("rbx", rbx), ("rbp", rbp)):
            info.add_saved_register(register, gdb.Value(value).cast(kind))
        return info


class FrameId:
    def __init__(self, sp, pc):
        self.sp, self.pc = gdb.Value(sp), gdb.Value(pc)


UNWINDER = Suspended()
gdb.unwinder.register_unwinder(None, UNWINDER, replace=True)


def backtrace(sp, end):
    """The frames of the coroutine that is suspended there, the innermost first."""
    before = gdb.selected_frame().level()
    UNWINDER.sp, UNWINDER.once = sp, False
    gdb.invalidate_cached_frames()
    try:
        frame, count = gdb.newest_frame().older(), 0
        while frame is not None and sp <= int(frame.read_register("rsp")) < end:
            if frame.name() in ("crore::switch::carrier::call", "crore::switch::carrier::body"):
                break
            count += 1
            frame = frame.older()
        shown = gdb.execute("backtrace %d" % (count + 1), to_string=True)
    finally:
        UNWINDER.sp = None
        gdb.invalidate_cached_frames()
        gdb.execute("frame %d" % before, to_string=True)
    paragraphs = re.split(r"^(?=#\d)", shown, flags=re.MULTILINE)
    lines = [paragraph for paragraph in paragraphs if paragraph.startswith("#")][1:]
    renumbered = (re.sub(r"^#\d+ *", "#%-3d" % i, line) for i, line in enumerate(lines))
    return "".join(line for line in renumbered).replace("(More stack frames follow...)\n", "")


class PutBack:
    """A shared coroutine's frames are on the stack, while this is on."""

    def __init__(self, sp, frames):
        self.sp, self.frames, self.copy, self.core = sp, frames, None, None

    def __enter__(self):
        if self.frames is None:
            return
        inferior, self.core = gdb.selected_inferior(), core_file()
        if self.core is None:
            self.before = bytes(inferior.read_memory(self.sp, len(self.frames)))
            inferior.write_memory(self.sp, self.frames)
            return
        self.copy = tempfile.NamedTemporaryFile(prefix="crore-core-", delete=False).name
        shutil.copyfile(self.core, self.copy)
        patch(self.copy, self.sp, self.frames)
        gdb.execute("core-file %s" % self.copy, to_string=True)

    def __exit__(self, *_):
        if self.copy is not None:
            gdb.execute("core-file %s" % self.core, to_string=True)
            os.unlink(self.copy)
        elif self.frames is not None:
            gdb.selected_inferior().write_memory(self.sp, self.before)


def core_file():
    found = re.search(r"Local core dump file:\n\s*`(.*)', file type", gdb.execute("info files", to_string=True))
    return found and found.group(1)


def patch(path, address, frames):
    """Writes into the memory that is in a core file (ELF, 64 bits)."""
    with open(path, "r+b") as file:
        head = file.read(64)
        start, size, count = (
            struct.unpack_from("<Q", head, 32)[0],
            *struct.unpack_from("<HH", head, 54),
        )
        for i in range(count):
            file.seek(start + i * size)
            kind, _, offset, low, _, length = struct.unpack("<IIQQQQ", file.read(40))
            if kind == 1 and low <= address and address + len(frames) <= low + length:
                file.seek(offset + address - low)
                file.write(frames)
                return
    raise gdb.GdbError("crore: the stack is not in the core file")


# The commands.


class Crore(gdb.Command):
    """Coroutines of a program with crore: `crore list`, `crore bt ID`, `crore bt all`."""

    def __init__(self):
        super().__init__("crore", gdb.COMMAND_STACK, prefix=True)


class List(gdb.Command):
    """All coroutines, a line each: id, state, kind, name, and where it was spawned."""

    def __init__(self):
        super().__init__("crore list", gdb.COMMAND_STACK)

    def invoke(self, _, __):
        all_of_them = coroutines()
        for one in all_of_them:
            print(described(one))
        if not all_of_them:
            print("no coroutines: no thread is a worker of crore, or it has no debug information")


def described(one):
    name = one.worker.given_name(one.slot)
    name = " '%s'" % name if name else ""
    cancelled = ", cancelled" if one.flags & CANCELLED else ""
    place = one.worker.location(one.slot)
    return "%-10s %-11s %-17s%s spawned at %s%s" % (one.name, one.state, one.kind(), name, place, cancelled)


class Backtrace(gdb.Command):
    """Where in its code a parked coroutine is: `crore bt ID`, an id of `crore list`; of all
    by `crore bt all`."""

    def __init__(self):
        super().__init__("crore bt", gdb.COMMAND_STACK)

    def invoke(self, wanted, _):
        wanted = wanted.strip()
        found = [one for one in coroutines() if wanted in ("all", one.name)]
        if not found:
            raise gdb.GdbError("crore bt: no coroutine %s; `crore list` has their ids" % wanted)
        for one in found:
            print(described(one))
            print(stack_of(one).rstrip("\n") + "\n")


def stack_of(one):
    if one.flags & POLLED:
        return "  (a future has no stack)"
    if one.state == "not started":
        return "  (it has none yet)"
    if one.state == "running":
        return "  (it runs: see the backtrace of thread %d)" % one.worker.thread
    # A copy of a core file makes values of the other one stale.
    sp, end, frames = one.worker.frames(one)
    with PutBack(sp, frames):
        return backtrace(sp, end)


Crore()
List()
Backtrace()

/**
 * Waiting with a resolution of some microseconds, for paced runs: Bun's timers step in milliseconds, and at 20,000 messages a
 * second the time between two is 50 µs.
 *
 * The event loop's own epoll descriptor can itself be polled: `ppoll` on it sleeps until a socket has something or the time
 * is over, and takes no event away. The loop then goes on by setImmediate, without waiting. Where that cannot be had (no
 * Linux, no libc) a paced run spins, which the report shows as a generator at 100 % of its core.
 */
import { dlopen, ptr } from "bun:ffi";
import { readdirSync, readlinkSync } from "node:fs";

const POLLIN = 1;
const PR_SET_TIMERSLACK = 29;
/** Shorter waits are not worth a system call. */
const WAIT_NS_MIN = 5000;

/** Returns a function that waits at most so many nanoseconds, below a second. */
export function preciseWait(): (ns: number) => void {
  const descriptor = epollDescriptor();
  if (descriptor < 0) return () => {};
  try {
    const { symbols } = dlopen("libc.so.6", {
      ppoll: { args: ["ptr", "u64", "ptr", "ptr"], returns: "i32" },
      prctl: { args: ["i32", "u64"], returns: "i32" },
    });
    symbols.prctl(PR_SET_TIMERSLACK, 1n);
    const polled = new Int32Array([descriptor, POLLIN]);
    const time = new Int32Array(4); // struct timespec: seconds and nanoseconds, 64 bits each
    const polledAt = ptr(polled);
    const timeAt = ptr(time);
    return (ns) => {
      if (ns < WAIT_NS_MIN) return;
      time[2] = ns;
      symbols.ppoll(polledAt, 1n, timeAt, null);
    };
  } catch {
    return () => {};
  }
}

/** That of this process's event loop, if there is just one. */
function epollDescriptor(): number {
  try {
    const found = readdirSync("/proc/self/fd").filter((name) => linkOf(name) === "anon_inode:[eventpoll]");
    return found.length === 1 ? Number(found[0]) : -1;
  } catch {
    return -1;
  }
}

function linkOf(name: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${name}`);
  } catch {
    return ""; // closed since
  }
}

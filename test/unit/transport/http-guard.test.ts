// When HTTP listeners rest, and when they listen again.
import { expect, test } from "bun:test";
import { type Door, HttpGuard } from "#transport/http-guard.ts";

const OTHERS = 128;

class FakeDoor implements Door {
  readonly calls: string[] = [];
  isTaken = false;

  closeIdle(): void {
    this.calls.push("closeIdle");
  }

  rest(): void {
    this.calls.push("rest");
  }

  resume(): void {
    if (this.isTaken) throw new Error("taken");
    this.calls.push("resume");
  }
}

function make(connectionsMax: number, descriptorsMax = 1_000_000) {
  const at = { open: 0, links: 0 };
  const told: [boolean, number][] = [];
  const faults: unknown[] = [];
  const guard = new HttpGuard(connectionsMax, {
    descriptorsMax,
    linkCount: () => at.links,
    openCount: () => at.open,
    onChange: (isResting, count) => void told.push([isResting, count]),
    onFault: (error) => void faults.push(error),
  });
  const door = new FakeDoor();
  return { at, told, faults, guard, door, leave: guard.add(door) };
}

test("what is open besides links and others counts: beyond the limit listeners rest until there is room", () => {
  const { at, told, guard, door } = make(100);
  at.open = 100 + 500 + OTHERS;
  at.links = 500;
  guard.look(0);
  expect(door.calls).toEqual([]);
  at.open++;
  guard.look(50);
  expect(door.calls.splice(0)).toEqual(["closeIdle", "rest"]);
  expect([told.splice(0), guard.isResting]).toEqual([[[true, 101]], true]);
  guard.look(100);
  expect(door.calls.splice(0)).toEqual(["closeIdle"]);
  at.open -= 20;
  guard.look(1000); // not a second yet
  expect(door.calls.splice(0)).toEqual(["closeIdle"]);
  guard.look(1100);
  expect([door.calls, told, guard.isResting]).toEqual([["resume"], [[false, 81]], false]);
});

test("closing what is idle may be enough", () => {
  const { at, told, guard, door } = make(10);
  at.open = OTHERS + 11;
  door.closeIdle = () => void (at.open = OTHERS);
  guard.look(0);
  expect([told, guard.isResting]).toEqual([[], false]);
});

test("a process that may open little keeps some of it free", () => {
  const { at, guard } = make(10_000, 1024);
  at.open = 1024 - 128;
  at.links = 700;
  guard.look(0);
  expect(guard.isResting).toBe(false);
  at.open++;
  guard.look(50);
  expect(guard.isResting).toBe(true);
});

test("a listener whose port is taken is tried again; one that comes while the others rest, rests; one that left is not touched", () => {
  const { at, faults, guard, door, leave } = make(1);
  at.open = 1000;
  guard.look(0);
  const late = new FakeDoor();
  guard.add(late);
  expect(late.calls).toEqual(["rest"]);
  at.open = 0;
  door.isTaken = true;
  guard.look(2000);
  expect([faults.length, guard.isResting]).toEqual([1, true]);
  door.isTaken = false;
  guard.look(2050);
  expect(guard.isResting).toBe(false);
  leave();
  const count = door.calls.length;
  at.open = 1000;
  guard.look(5000);
  expect([door.calls.length, late.calls.at(-1)]).toEqual([count, "rest"]);
});

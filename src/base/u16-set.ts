/**
 * A small set of 16-bit numbers from 1 to 65,535: QoS 2 packet ids that were received and not released. Open addressing,
 * 0 is an empty slot, removal shifts back; 16 bytes for up to 5 numbers.
 */
export class U16Set {
  private slots = new Uint16Array(8);
  count = 0;

  has(value: number): boolean {
    return this.slots[this.slotOf(value)] === value;
  }

  /** False when it was there already. */
  add(value: number): boolean {
    if (this.has(value)) return false;
    if (++this.count * 4 > this.slots.length * 3) this.grow();
    this.slots[this.slotOf(value)] = value;
    return true;
  }

  /** False when it was not there. */
  delete(value: number): boolean {
    const { slots } = this;
    const mask = slots.length - 1;
    let hole = this.slotOf(value);
    if (slots[hole] === 0) return false;
    for (let s = (hole + 1) & mask; slots[s] !== 0; s = (s + 1) & mask) {
      const home = spread(slots[s]) & mask;
      if (((s - home) & mask) >= ((s - hole) & mask)) {
        slots[hole] = slots[s];
        hole = s;
      }
    }
    slots[hole] = 0;
    this.count--;
    return true;
  }

  *values(): Iterable<number> {
    for (const value of this.slots) if (value !== 0) yield value;
  }

  private slotOf(value: number): number {
    const mask = this.slots.length - 1;
    let s = spread(value) & mask;
    while (this.slots[s] !== 0 && this.slots[s] !== value) s = (s + 1) & mask;
    return s;
  }

  private grow(): void {
    const old = this.slots;
    this.slots = new Uint16Array(old.length * 2);
    for (const value of old) if (value !== 0) this.slots[this.slotOf(value)] = value;
  }
}

function spread(value: number): number {
  return Math.imul(value, 0x9e3779b1) >>> 13;
}

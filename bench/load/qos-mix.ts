/**
 * A QoS, or a mix of them by weight (`0:50,1:30,2:20`), as the cycle that each publisher runs through: the shares are
 * exact over one cycle, and spread over it rather than in blocks.
 */

const CYCLE_MAX = 1000;

/** Throws RangeError for anything that is not a QoS or a mix. */
export function parseQosMix(text: string): number[] {
  const weights = [0, 0, 0];
  for (const part of text.split(",")) {
    const match = /^([012])(?::(\d{1,9}))?$/.exec(part);
    if (match === null) throw new RangeError(`${text} is neither a QoS (0, 1 or 2) nor a mix such as 0:50,1:30,2:20`);
    weights[Number(match[1])] += match[2] === undefined ? 1 : Number(match[2]);
  }
  const divisor = weights.reduce(commonDivisor);
  if (divisor === 0) throw new RangeError(`${text}: all weights are 0`);
  const parts = weights.map((weight) => weight / divisor);
  const length = parts.reduce((a, b) => a + b);
  if (length > CYCLE_MAX) throw new RangeError(`${text}: use weights whose reduced sum is at most ${CYCLE_MAX}`);
  return spread(parts, length);
}

/** At each step the QoS that is furthest behind its share. */
function spread(parts: readonly number[], length: number): number[] {
  const taken = parts.map(() => 0);
  return Array.from({ length }, (_, step) => {
    const behind = parts.map((part, qos) => (part * (step + 1)) / length - taken[qos]);
    const next = behind.indexOf(Math.max(...behind));
    taken[next]++;
    return next;
  });
}

function commonDivisor(a: number, b: number): number {
  return b === 0 ? a : commonDivisor(b, a % b);
}

/** A value that components follow: the smallest thing that serves instead of a state library. */
import { useLayoutEffect, useState } from "preact/hooks";

export class Cell<T> {
  private readonly followers = new Set<(value: T) => void>();

  constructor(private current: T) {}

  get value(): T {
    return this.current;
  }

  set(value: T): void {
    this.current = value;
    for (const follower of this.followers) follower(value);
  }

  /** Calls back at each change; the answer ends that. */
  follow(follower: (value: T) => void): () => void {
    this.followers.add(follower);
    return () => this.followers.delete(follower);
  }
}

/** Draws the component anew whenever the cell is set. */
export function useCell<T>(cell: Cell<T>): T {
  const [, draw] = useState({});
  const { value } = cell;
  useLayoutEffect(() => {
    if (cell.value !== value) draw({});
    return cell.follow(() => draw({}));
  }, [cell]);
  return value;
}

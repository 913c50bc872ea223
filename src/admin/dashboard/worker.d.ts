/** Bun's Worker has what a browser's has not; sources of the broker, whose types are used here, rely on it. */
interface Worker {
  ref(): void;
  unref(): void;
}

/** Where a connection stands, and what a handler may answer besides a reason code. */

export const AWAITING_CONNECT = 0;
export const AUTHENTICATING = 1;
export const OPENING = 2;
export const OPEN = 3;
export const CLOSED = 4;

/** A handler's answer: the packet must be handled once more when the hold ends. */
export const HANDLE_AGAIN = -1;
/** A handler's answer: another protocol has the link from now on. */
export const MOVED = -2;

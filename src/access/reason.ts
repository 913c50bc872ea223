/** The MQTT 5.0 reason codes that access gives (§2.4); the MQTT layer translates them for 3.x. */
export const ACCEPTED = 0x00;
export const CONTINUE = 0x18;
export const BAD_USER_NAME_OR_PASSWORD = 0x86;
export const NOT_AUTHORIZED = 0x87;
export const SERVER_UNAVAILABLE = 0x88;
export const SERVER_BUSY = 0x89;
export const BANNED = 0x8a;
export const BAD_AUTHENTICATION_METHOD = 0x8c;
/** For a DISCONNECT, where 0x8a does not exist. */
export const ADMINISTRATIVE_ACTION = 0x98;

/** Why a client is refused. Only 0x86 counts as a failed credential. */
export type RefusalCode =
  | typeof BAD_USER_NAME_OR_PASSWORD
  | typeof NOT_AUTHORIZED
  | typeof SERVER_UNAVAILABLE
  | typeof SERVER_BUSY
  | typeof BANNED
  | typeof BAD_AUTHENTICATION_METHOD;

/** Reason codes of MQTT 5.0 (§2.4) by name, and what 3.x has instead. */

export const SUCCESS = 0x00;
export const NO_MATCHING_SUBSCRIBERS = 0x10;
export const CONTINUE_AUTHENTICATION = 0x18;
export const REAUTHENTICATE = 0x19;
export const UNSPECIFIED_ERROR = 0x80;
export const MALFORMED_PACKET = 0x81;
export const PROTOCOL_ERROR = 0x82;
export const UNSUPPORTED_PROTOCOL_VERSION = 0x84;
export const CLIENT_IDENTIFIER_NOT_VALID = 0x85;
const BAD_USER_NAME_OR_PASSWORD = 0x86;
export const NOT_AUTHORIZED = 0x87;
export const SERVER_UNAVAILABLE = 0x88;
export const SERVER_BUSY = 0x89;
export const SERVER_SHUTTING_DOWN = 0x8b;
export const KEEP_ALIVE_TIMEOUT = 0x8d;
export const SESSION_TAKEN_OVER = 0x8e;
export const TOPIC_NAME_INVALID = 0x90;
export const PACKET_IDENTIFIER_NOT_FOUND = 0x92;
export const RECEIVE_MAXIMUM_EXCEEDED = 0x93;
export const TOPIC_ALIAS_INVALID = 0x94;
export const PACKET_TOO_LARGE = 0x95;
export const QUOTA_EXCEEDED = 0x97;
export const RETAIN_NOT_SUPPORTED = 0x9a;
export const QOS_NOT_SUPPORTED = 0x9b;
export const USE_ANOTHER_SERVER = 0x9c;
export const CONNECTION_RATE_EXCEEDED = 0x9f;

/** CONNACK return code of 3.1 and 3.1.1 (§3.2.2.3) that says the same, or −1: then the link is closed without a CONNACK. */
export function returnCode3(reasonCode: number): number {
  switch (reasonCode) {
    case SUCCESS:
      return 0;
    case UNSUPPORTED_PROTOCOL_VERSION:
      return 1;
    case CLIENT_IDENTIFIER_NOT_VALID:
      return 2;
    case BAD_USER_NAME_OR_PASSWORD:
      return 4;
    case NOT_AUTHORIZED:
    case 0x8a: // banned
    case 0x8c: // bad authentication method
      return 5;
    case SERVER_UNAVAILABLE:
    case SERVER_BUSY:
    case SERVER_SHUTTING_DOWN:
    case QUOTA_EXCEEDED:
    case CONNECTION_RATE_EXCEEDED:
      return 3;
    default:
      return -1;
  }
}

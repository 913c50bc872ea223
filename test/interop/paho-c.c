/*
 * Scenarios for the synchronous Paho C client against a running broker: paho-c URI VERSION SCENARIO.
 * Ends with 0 when the scenario holds; prints the failed expectation and ends with 1 otherwise.
 */
#include <MQTTClient.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_MS 5000
#define LARGE_BYTES (900 * 1024)

#define EXPECT(what)                                                                                                   \
  do {                                                                                                                 \
    if (!(what)) {                                                                                                     \
      fprintf(stderr, "line %d: %s\n", __LINE__, #what);                                                               \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

static const char* uri;
static int version;
static char prefix[64];

static const char* topic_of(const char* name) {
  static char topic[128];
  snprintf(topic, sizeof topic, "%s/%s", prefix, name);
  return topic;
}

static MQTTClient create(const char* name) {
  MQTTClient client;
  char id[64];
  snprintf(id, sizeof id, "%s-%d", name, version);
  MQTTClient_createOptions options = MQTTClient_createOptions_initializer;
  options.MQTTVersion = version;
  EXPECT(MQTTClient_createWithOptions(&client, uri, id, MQTTCLIENT_PERSISTENCE_NONE, NULL, &options) == 0);
  return client;
}

/* Returns Session Present. */
static int connect_client(MQTTClient client, int clean, MQTTProperties* properties) {
  int present;
  if (version == MQTTVERSION_5) {
    MQTTClient_connectOptions options = MQTTClient_connectOptions_initializer5;
    options.cleanstart = clean;
    options.connectTimeout = 5;
    MQTTResponse response = MQTTClient_connect5(client, &options, properties, NULL);
    EXPECT(response.reasonCode == MQTTREASONCODE_SUCCESS);
    present = 0;
    MQTTResponse_free(response);
  } else {
    MQTTClient_connectOptions options = MQTTClient_connectOptions_initializer;
    options.cleansession = clean;
    options.MQTTVersion = version;
    options.connectTimeout = 5;
    EXPECT(MQTTClient_connect(client, &options) == MQTTCLIENT_SUCCESS);
    EXPECT(options.returned.MQTTVersion == version);
    present = options.returned.sessionPresent;
  }
  return present;
}

static void subscribe(MQTTClient client, const char* filter, int qos, MQTTProperties* properties) {
  if (version == MQTTVERSION_5) {
    MQTTResponse response = MQTTClient_subscribe5(client, filter, qos, NULL, properties);
    EXPECT((int)response.reasonCode == qos);
    MQTTResponse_free(response);
  } else {
    EXPECT(MQTTClient_subscribe(client, filter, qos) == MQTTCLIENT_SUCCESS);
  }
}

static void publish(MQTTClient client, const char* topic, MQTTClient_message* message) {
  MQTTClient_deliveryToken token;
  if (version == MQTTVERSION_5) {
    MQTTResponse response = MQTTClient_publishMessage5(client, topic, message, &token);
    EXPECT(response.reasonCode == MQTTREASONCODE_SUCCESS);
    MQTTResponse_free(response);
  } else {
    EXPECT(MQTTClient_publishMessage(client, topic, message, &token) == MQTTCLIENT_SUCCESS);
  }
  EXPECT(message->qos == 0 || MQTTClient_waitForCompletion(client, token, WAIT_MS) == MQTTCLIENT_SUCCESS);
}

static void publish_text(MQTTClient client, const char* topic, const char* text, int qos, int retained) {
  MQTTClient_message message = MQTTClient_message_initializer;
  message.payload = (void*)text;
  message.payloadlen = (int)strlen(text);
  message.qos = qos;
  message.retained = retained;
  publish(client, topic, &message);
}

static MQTTClient_message* expect_message(MQTTClient client, const char* topic, int qos, int retained) {
  char* name = NULL;
  int length;
  MQTTClient_message* message = NULL;
  EXPECT(MQTTClient_receive(client, &name, &length, &message, WAIT_MS) == MQTTCLIENT_SUCCESS);
  EXPECT(message != NULL);
  EXPECT(strcmp(name, topic) == 0);
  EXPECT(message->qos == qos);
  EXPECT(message->retained == retained);
  MQTTClient_free(name);
  return message;
}

static void expect_text(MQTTClient client, const char* topic, const char* text, int qos, int retained) {
  MQTTClient_message* message = expect_message(client, topic, qos, retained);
  EXPECT(message->payloadlen == (int)strlen(text));
  EXPECT(memcmp(message->payload, text, strlen(text)) == 0);
  MQTTClient_freeMessage(&message);
}

static void end(MQTTClient client) {
  if (version == MQTTVERSION_5)
    EXPECT(MQTTClient_disconnect5(client, 1000, MQTTREASONCODE_SUCCESS, NULL) == MQTTCLIENT_SUCCESS);
  else
    EXPECT(MQTTClient_disconnect(client, 1000) == MQTTCLIENT_SUCCESS);
  MQTTClient_destroy(&client);
}

static void run_qos(void) {
  MQTTClient client = create("c-qos");
  EXPECT(connect_client(client, 1, NULL) == 0);
  subscribe(client, topic_of("+"), 2, NULL);
  for (int qos = 0; qos <= 2; qos++) {
    for (int i = 0; i < 4; i++) {
      char text[16];
      snprintf(text, sizeof text, "%d-%d", qos, i);
      publish_text(client, topic_of("a"), text, qos, 0);
      expect_text(client, topic_of("a"), text, qos, 0);
    }
  }
  end(client);
}

static void run_large(void) {
  MQTTClient client = create("c-large");
  unsigned char* payload = malloc(LARGE_BYTES);
  EXPECT(payload != NULL);
  for (int i = 0; i < LARGE_BYTES; i++) payload[i] = (unsigned char)(i * 31);
  connect_client(client, 1, NULL);
  subscribe(client, topic_of("a"), 2, NULL);
  for (int qos = 0; qos <= 2; qos++) {
    MQTTClient_message message = MQTTClient_message_initializer;
    message.payload = payload;
    message.payloadlen = LARGE_BYTES;
    message.qos = qos;
    publish(client, topic_of("a"), &message);
    MQTTClient_message* got = expect_message(client, topic_of("a"), qos, 0);
    EXPECT(got->payloadlen == LARGE_BYTES && memcmp(got->payload, payload, LARGE_BYTES) == 0);
    MQTTClient_freeMessage(&got);
  }
  free(payload);
  end(client);
}

static void run_retained(void) {
  MQTTClient client = create("c-retained");
  connect_client(client, 1, NULL);
  publish_text(client, topic_of("a"), "kept", 1, 1);
  subscribe(client, topic_of("+"), 2, NULL);
  expect_text(client, topic_of("a"), "kept", 1, 1);
  publish_text(client, topic_of("a"), "", 1, 1);
  expect_text(client, topic_of("a"), "", 1, 0);
  end(client);
}

static void run_session(void) {
  MQTTProperties properties = MQTTProperties_initializer;
  MQTTProperty expiry = {.identifier = MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL, .value.integer4 = 600};
  EXPECT(MQTTProperties_add(&properties, &expiry) == 0);
  MQTTClient client = create("c-session");
  EXPECT(connect_client(client, 0, &properties) == 0);
  subscribe(client, topic_of("a"), 2, NULL);
  end(client);

  MQTTClient publisher = create("c-session-publisher");
  connect_client(publisher, 1, NULL);
  publish_text(publisher, topic_of("a"), "1", 1, 0);
  publish_text(publisher, topic_of("a"), "2", 2, 0);
  end(publisher);

  MQTTClient again = create("c-session");
  int present = connect_client(again, 0, &properties);
  /* Only the 3.1.1 call tells of Session Present. */
  EXPECT(version != MQTTVERSION_3_1_1 || present == 1);
  expect_text(again, topic_of("a"), "1", 1, 0);
  expect_text(again, topic_of("a"), "2", 2, 0);
  end(again);
  MQTTProperties_free(&properties);
}

static MQTTProperty text_property(enum MQTTPropertyCodes code, char* text) {
  MQTTProperty property = {.identifier = code};
  property.value.data.data = text;
  property.value.data.len = (int)strlen(text);
  return property;
}

static void expect_property(MQTTClient_message* message, enum MQTTPropertyCodes code, const char* text) {
  MQTTProperty* property = MQTTProperties_getProperty(&message->properties, code);
  EXPECT(property != NULL);
  EXPECT(property->value.data.len == (int)strlen(text));
  EXPECT(memcmp(property->value.data.data, text, strlen(text)) == 0);
}

static void run_properties(void) {
  MQTTProperties connecting = MQTTProperties_initializer;
  MQTTProperty receive_max = {.identifier = MQTTPROPERTY_CODE_RECEIVE_MAXIMUM, .value.integer2 = 3};
  MQTTProperty alias_max = {.identifier = MQTTPROPERTY_CODE_TOPIC_ALIAS_MAXIMUM, .value.integer2 = 0};
  MQTTProperty expiry = {.identifier = MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL, .value.integer4 = 60};
  MQTTProperty user = text_property(MQTTPROPERTY_CODE_USER_PROPERTY, "k");
  user.value.value.data = "v";
  user.value.value.len = 1;
  EXPECT(MQTTProperties_add(&connecting, &receive_max) == 0);
  EXPECT(MQTTProperties_add(&connecting, &alias_max) == 0);
  EXPECT(MQTTProperties_add(&connecting, &expiry) == 0);
  EXPECT(MQTTProperties_add(&connecting, &user) == 0);
  MQTTClient client = create("c-properties");
  connect_client(client, 1, &connecting);

  MQTTProperties subscribing = MQTTProperties_initializer;
  MQTTProperty identifier = {.identifier = MQTTPROPERTY_CODE_SUBSCRIPTION_IDENTIFIER, .value.integer4 = 77};
  EXPECT(MQTTProperties_add(&subscribing, &identifier) == 0);
  subscribe(client, topic_of("a"), 2, &subscribing);

  MQTTClient_message message = MQTTClient_message_initializer;
  MQTTProperty type = text_property(MQTTPROPERTY_CODE_CONTENT_TYPE, "text/plain");
  MQTTProperty answer = text_property(MQTTPROPERTY_CODE_RESPONSE_TOPIC, "answers");
  MQTTProperty data = text_property(MQTTPROPERTY_CODE_CORRELATION_DATA, "17");
  EXPECT(MQTTProperties_add(&message.properties, &type) == 0);
  EXPECT(MQTTProperties_add(&message.properties, &answer) == 0);
  EXPECT(MQTTProperties_add(&message.properties, &data) == 0);
  EXPECT(MQTTProperties_add(&message.properties, &user) == 0);
  message.payload = "m";
  message.payloadlen = 1;
  message.qos = 2;
  publish(client, topic_of("a"), &message);

  MQTTClient_message* got = expect_message(client, topic_of("a"), 2, 0);
  expect_property(got, MQTTPROPERTY_CODE_CONTENT_TYPE, "text/plain");
  expect_property(got, MQTTPROPERTY_CODE_RESPONSE_TOPIC, "answers");
  expect_property(got, MQTTPROPERTY_CODE_CORRELATION_DATA, "17");
  expect_property(got, MQTTPROPERTY_CODE_USER_PROPERTY, "k");
  EXPECT(MQTTProperties_getNumericValue(&got->properties, MQTTPROPERTY_CODE_SUBSCRIPTION_IDENTIFIER) == 77);
  MQTTClient_freeMessage(&got);

  MQTTResponse none = MQTTClient_unsubscribe5(client, topic_of("none"), NULL);
  EXPECT(none.reasonCode == MQTTREASONCODE_NO_SUBSCRIPTION_FOUND);
  MQTTResponse_free(none);
  end(client);
  MQTTProperties_free(&connecting);
  MQTTProperties_free(&subscribing);
  MQTTProperties_free(&message.properties);
}

int main(int argc, char** argv) {
  static const struct {
    const char* name;
    void (*run)(void);
  } scenarios[] = {
      {"qos", run_qos},         {"large", run_large},           {"retained", run_retained},
      {"session", run_session}, {"properties", run_properties},
  };
  EXPECT(argc == 4);
  uri = argv[1];
  version = strcmp(argv[2], "5.0") == 0     ? MQTTVERSION_5
            : strcmp(argv[2], "3.1.1") == 0 ? MQTTVERSION_3_1_1
                                            : MQTTVERSION_3_1;
  snprintf(prefix, sizeof prefix, "c/%s/%s", argv[2], argv[3]);
  for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
    if (strcmp(argv[3], scenarios[i].name) != 0) continue;
    scenarios[i].run();
    return 0;
  }
  fprintf(stderr, "no scenario %s\n", argv[3]);
  return 1;
}

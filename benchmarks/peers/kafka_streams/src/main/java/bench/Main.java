package bench;

import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.WindowedSerdes;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.WindowStore;

/** The workloads in Kafka Streams: one stream thread, RocksDB with changelogs; commits every second, or 100 ms. */
public final class Main {
    record Event(String user, String page, long amount, long seq, String kind) { }

    record Paid(String user, String page, long cents, long seq) { }

    record User(String user, String tier) { }

    record Joint(String user, long amount, long seq, String tier) { }

    private static final Serde<String> STRING = Serdes.String();
    private static final Serde<Event> EVENT = new JsonSerde<>(Event.class);
    private static final Duration WINDOW = Duration.ofMinutes(1);

    private Main() { }

    /** Arguments: workload, broker, application id, three topics (in, out, table), state folder, partitions, guarantee. */
    public static void main(final String[] args) throws InterruptedException {
        final StreamsBuilder builder = new StreamsBuilder();
        build(builder, args[0], args[3], args[4], args[5]);
        final KafkaStreams streams = new KafkaStreams(builder.build(), properties(args[1], args[2], args[6], args[8]));
        final CountDownLatch stopped = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            streams.close(Duration.ofSeconds(20));
            stopped.countDown();
        }));
        streams.start();
        stopped.await();
    }

    private static void build(
            final StreamsBuilder builder, final String workload, final String in, final String out, final String table) {
        switch (workload) {
            case "map" -> builder.stream(in, Consumed.with(STRING, EVENT))
                .filter((user, event) -> !event.kind().equals("drop"))
                .mapValues(event -> new Paid(event.user(), event.page(), event.amount() * 100, event.seq()))
                .to(out, Produced.with(STRING, new JsonSerde<>(Paid.class)));
            // The value is not looked at, so it stays bytes.
            case "count" -> builder.stream(in, Consumed.with(STRING, Serdes.ByteArray()))
                .groupByKey()
                .count(Materialized.as("counts"))
                .toStream()
                .to(out, Produced.with(STRING, Serdes.Long()));
            case "window" -> builder.stream(in, Consumed.with(STRING, EVENT))
                .groupByKey()
                .windowedBy(TimeWindows.ofSizeWithNoGrace(WINDOW))
                .aggregate(
                    () -> 0L,
                    (user, event, sum) -> sum + event.amount(),
                    Materialized.<String, Long, WindowStore<Bytes, byte[]>>as("sums")
                        .withKeySerde(STRING)
                        .withValueSerde(Serdes.Long()))
                .toStream()
                .to(out, Produced.with(
                    WindowedSerdes.timeWindowedSerdeFrom(String.class, WINDOW.toMillis()), Serdes.Long()));
            case "repartition" -> builder.stream(in, Consumed.with(STRING, EVENT))
                .groupBy((user, event) -> event.page(), Grouped.with("by-page", STRING, EVENT))
                .count(Materialized.as("counts"))
                .toStream()
                .to(out, Produced.with(STRING, Serdes.Long()));
            case "table-join" -> {
                final KTable<String, User> users =
                    builder.table(table, Consumed.with(STRING, new JsonSerde<>(User.class)), Materialized.as("users"));
                builder.stream(in, Consumed.with(STRING, EVENT))
                    .join(
                        users,
                        (event, user) -> new Joint(event.user(), event.amount(), event.seq(), user.tier()),
                        Joined.with(STRING, EVENT, null))
                    .to(out, Produced.with(STRING, new JsonSerde<>(Joint.class)));
            }
            case "stream-join" -> {
                final KStream<String, User> logins =
                    builder.stream(table, Consumed.with(STRING, new JsonSerde<>(User.class)));
                builder.stream(in, Consumed.with(STRING, EVENT))
                    .join(
                        logins,
                        (event, user) -> new Joint(event.user(), event.amount(), event.seq(), user.tier()),
                        JoinWindows.ofTimeDifferenceAndGrace(WINDOW, Duration.ofMinutes(10)),
                        StreamJoined.with(STRING, EVENT, new JsonSerde<>(User.class)).withStoreName("joined"))
                    .to(out, Produced.with(STRING, new JsonSerde<>(Joint.class)));
            }
            case "session" -> builder.stream(in, Consumed.with(STRING, Serdes.ByteArray()))
                .groupByKey()
                .windowedBy(SessionWindows.ofInactivityGapAndGrace(Duration.ofSeconds(5), Duration.ofSeconds(10)))
                .count(Materialized.as("sessions"))
                .toStream()
                .to(out, Produced.with(WindowedSerdes.sessionWindowedSerdeFrom(String.class), Serdes.Long()));
            case "foreign-key-join" -> {
                final KTable<String, User> pages =
                    builder.table(table, Consumed.with(STRING, new JsonSerde<>(User.class)), Materialized.as("pages"));
                builder.table(in, Consumed.with(STRING, EVENT), Materialized.as("events"))
                    .join(
                        pages,
                        (user, event) -> event.page(),
                        (event, page) -> new Joint(event.user(), event.amount(), event.seq(), page.tier()),
                        Materialized.<String, Joint, KeyValueStore<Bytes, byte[]>>as("joined")
                            .withKeySerde(STRING)
                            .withValueSerde(new JsonSerde<>(Joint.class)))
                    .toStream()
                    .to(out, Produced.with(STRING, new JsonSerde<>(Joint.class)));
            }
            default -> throw new IllegalArgumentException("unknown workload " + workload);
        }
    }

    private static Properties properties(
            final String broker, final String applicationId, final String stateDir, final String guarantee) {
        final Properties properties = new Properties();
        properties.put(StreamsConfig.APPLICATION_ID_CONFIG, applicationId);
        properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, broker);
        properties.put(StreamsConfig.STATE_DIR_CONFIG, stateDir);
        properties.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        final boolean exactlyOnce = guarantee.equals(StreamsConfig.EXACTLY_ONCE_V2);
        properties.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, guarantee);
        properties.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, exactlyOnce ? 100 : 1000);
        properties.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.AT_LEAST_ONCE);
        properties.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        properties.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 10_000);
        properties.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 4 << 20);
        properties.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        properties.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 1 << 20);
        properties.put(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 64 << 20);
        properties.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 100);
        return properties;
    }
}

import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.WindowedSerdes;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.WindowStore;

/** The application of the take-over test in Kafka Streams; `application.py` beside it has the same in streamlib. */
public final class TakeOver {
    private static final Serde<String> STRING = Serdes.String();
    private static final Serde<Long> LONG = Serdes.Long();
    private static final Duration MINUTE = Duration.ofMinutes(1);

    private TakeOver() { }

    /** Arguments: broker, application id, prefix of the input topics, prefix of the output topics, state folder. */
    public static void main(final String[] args) throws InterruptedException {
        final Properties properties = new Properties();
        properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        properties.put(StreamsConfig.APPLICATION_ID_CONFIG, args[1]);
        properties.put(StreamsConfig.STATE_DIR_CONFIG, args[4]);
        properties.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 500);
        properties.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        properties.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        final StreamsBuilder builder = new StreamsBuilder();
        build(builder, args[2], args[3]);
        final KafkaStreams streams = new KafkaStreams(builder.build(), properties);
        final CountDownLatch stopped = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            // Leaves the group, so that the next owner does not wait for the session to end.
            streams.close(new KafkaStreams.CloseOptions().timeout(Duration.ofSeconds(20)).leaveGroup(true));
            stopped.countDown();
        }));
        streams.start();
        stopped.await();
    }

    private static void build(final StreamsBuilder builder, final String in, final String out) {
        final KStream<String, Long> sales = builder.stream(in + "-sales", Consumed.with(STRING, LONG));
        sales.groupBy((customer, amount) -> "bucket-" + amount % 10, Grouped.with("by-bucket", STRING, LONG))
            .count(Materialized.as("bucket-counts"))
            .toStream()
            .to(out + "-counts", Produced.with(STRING, LONG));
        sales.groupByKey(Grouped.with(STRING, LONG))
            .windowedBy(TimeWindows.ofSizeAndGrace(MINUTE, Duration.ofHours(1)))
            .reduce(
                Long::sum,
                Materialized.<String, Long, WindowStore<Bytes, byte[]>>as("sums")
                    .withKeySerde(STRING)
                    .withValueSerde(LONG))
            .toStream()
            .to(out + "-sums", Produced.with(
                WindowedSerdes.timeWindowedSerdeFrom(String.class, MINUTE.toMillis()), LONG));
        final KTable<String, String> names =
            builder.table(in + "-names", Consumed.with(STRING, STRING), Materialized.as("names"));
        final KTable<String, String> cities =
            builder.table(in + "-cities", Consumed.with(STRING, STRING), Materialized.as("cities"));
        names.join(
                cities,
                (name, city) -> name + " of " + city,
                Materialized.<String, String, KeyValueStore<Bytes, byte[]>>as("people")
                    .withKeySerde(STRING)
                    .withValueSerde(STRING))
            .toStream()
            .to(out + "-people", Produced.with(STRING, STRING));
    }
}

import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.AbstractMongoBackend;
import de.bwaldvogel.mongo.backend.h2.H2Backend;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.wire.message.MongoMessage;
import java.util.List;

/** Speaks enough of MongoDB's wire protocol for tests, on loopback: StandIn memory PORT, or StandIn h2 PORT FILE. */
public final class StandIn {
    /** H2 alone writes once a second; here an answer waits until what it tells of is in the file. */
    static final class DurableBackend extends H2Backend {
        DurableBackend(String file) {
            super(file);
        }

        @Override
        public Document handleMessage(MongoMessage message) {
            try {
                return super.handleMessage(message);
            } finally {
                commit();
            }
        }
    }

    /** The oldest that PyMongo 4.20 speaks to. */
    static final class Version implements MongoVersion {
        @Override
        public List<Integer> getVersionArray() {
            return List.of(4, 4, 0);
        }

        @Override
        public int getWireVersion() {
            return 9;
        }
    }

    public static void main(String[] arguments) {
        int port = Integer.parseInt(arguments[1]);
        AbstractMongoBackend backend =
                arguments[0].equals("memory") ? new MemoryBackend() : new DurableBackend(arguments[2]);
        MongoServer server = new MongoServer(backend.version(new Version()));
        Runtime.getRuntime().addShutdownHook(new Thread(server::shutdownNow));
        server.bind("127.0.0.1", port);
    }
}

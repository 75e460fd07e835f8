import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.AbstractMongoBackend;
import de.bwaldvogel.mongo.backend.CursorRegistry;
import de.bwaldvogel.mongo.backend.Index;
import de.bwaldvogel.mongo.backend.IndexKey;
import de.bwaldvogel.mongo.backend.h2.H2Backend;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import de.bwaldvogel.mongo.backend.memory.MemoryDatabase;
import de.bwaldvogel.mongo.backend.memory.index.MemoryUniqueIndex;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.wire.message.MongoMessage;
import java.util.List;

/** Speaks enough of MongoDB's wire protocol for tests, on loopback: StandIn memory PORT, or StandIn h2 PORT FILE. */
public final class StandIn {
    static final String ID = "_id";

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

    /** A query that names an `_id` goes to that document, whatever else it asks for, as in MongoDB. The library takes an
     *  index only for exactly its own fields, and looks at every document for a compare-and-set. */
    static final class IdIndex extends MemoryUniqueIndex {
        IdIndex(String name, List<IndexKey> keys, boolean sparse) {
            super(name, keys, sparse);
        }

        @Override
        public synchronized boolean canHandle(Document query) {
            return query.containsKey(ID) && super.canHandle(byId(query));
        }

        @Override
        public synchronized Iterable<Integer> getPositions(Document query) {
            return super.getPositions(byId(query)); // the rest of the query is asked of what is found
        }

        private static Document byId(Document query) {
            return new Document(ID, query.get(ID));
        }
    }

    static final class QuickDatabase extends MemoryDatabase {
        QuickDatabase(String name, CursorRegistry cursors) {
            super(name, cursors);
        }

        @Override
        protected Index<Integer> openOrCreateUniqueIndex(
                String collection, String name, List<IndexKey> keys, boolean sparse) {
            boolean ofIds = keys.size() == 1 && keys.get(0).getKey().equals(ID);
            return ofIds
                    ? new IdIndex(name, keys, sparse)
                    : super.openOrCreateUniqueIndex(collection, name, keys, sparse);
        }
    }

    static final class QuickBackend extends MemoryBackend {
        @Override
        public MemoryDatabase openOrCreateDatabase(String name) {
            return new QuickDatabase(name, getCursorRegistry());
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
                arguments[0].equals("memory") ? new QuickBackend() : new DurableBackend(arguments[2]);
        MongoServer server = new MongoServer(backend.version(new Version()));
        Runtime.getRuntime().addShutdownHook(new Thread(server::shutdownNow));
        server.bind("127.0.0.1", port);
    }
}

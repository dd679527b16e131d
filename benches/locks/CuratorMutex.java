import java.util.Scanner;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.retry.RetryOneTime;

/** Curator's mutex at work: `each WORKERS SECONDS` or `one WORKERS SECONDS`, answered with cycles a second. */
public class CuratorMutex {
    public static void main(String[] arguments) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.newClient(arguments[0], new RetryOneTime(100));
        client.start();
        client.blockUntilConnected();
        Scanner lines = new Scanner(System.in);
        while (lines.hasNextLine()) {
            String[] words = lines.nextLine().split(" ");
            int workers = Integer.parseInt(words[1]);
            long begun = System.nanoTime();
            long end = begun + Long.parseLong(words[2]) * 1_000_000_000L;
            AtomicLong cycles = new AtomicLong();
            Thread[] threads = new Thread[workers];
            for (int worker = 0; worker < workers; worker++) {
                String path = "/fencegate/locks/bench" + (words[0].equals("each") ? worker : 0);
                threads[worker] = new Thread(() -> {
                    // It counts by thread, so that threads of one process exclude each other.
                    InterProcessMutex mutex = new InterProcessMutex(client, path);
                    try {
                        while (System.nanoTime() < end) {
                            mutex.acquire();
                            mutex.release();
                            cycles.incrementAndGet();
                        }
                    } catch (Exception error) {
                        error.printStackTrace();
                        System.exit(1);
                    }
                });
                threads[worker].start();
            }
            for (Thread thread : threads) {
                thread.join();
            }
            System.out.println(cycles.get() / ((System.nanoTime() - begun) / 1e9));
        }
        System.exit(0);
    }
}

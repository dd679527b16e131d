import java.util.Scanner;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.retry.RetryOneTime;

/** Curator's InterProcessMutex, told line by line what to do: `acquire PATH SECONDS_TO_WAIT`, `release`, `sequence`. */
public class CuratorLock {
    static class Mutex extends InterProcessMutex {
        Mutex(CuratorFramework client, String path) {
            super(client, path);
        }

        String znode() {
            return getLockPath();
        }
    }

    public static void main(String[] arguments) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.newClient(arguments[0], new RetryOneTime(100));
        client.start();
        client.blockUntilConnected();
        Mutex mutex = null;
        Scanner lines = new Scanner(System.in);
        while (lines.hasNextLine()) {
            String[] words = lines.nextLine().split(" ");
            String answer;
            switch (words[0]) {
                case "acquire":
                    mutex = new Mutex(client, words[1]);
                    answer = mutex.acquire(Long.parseLong(words[2]), TimeUnit.SECONDS) ? "acquired" : "busy";
                    break;
                case "sequence":
                    answer = Long.toString(client.checkExists().forPath(mutex.znode()).getCzxid());
                    break;
                default:
                    mutex.release();
                    answer = "released";
            }
            System.out.println(answer);
        }
        System.exit(0);
    }
}

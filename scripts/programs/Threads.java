// A pool of threads, sockets with a thread each, waits, monitors, and collections of garbage.

import java.io.IOException;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

public class Threads {
    static int answers;

    static int job(int number) throws InterruptedException {
        byte[][] garbage = new byte[50][];
        for (int i = 0; i < garbage.length; i++) garbage[i] = new byte[10_000];
        Thread.sleep(1);
        return number + garbage.length;
    }

    static void pool() throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(16);
        List<Future<Integer>> jobs = new ArrayList<>();
        for (int i = 0; i < 200; i++) {
            int number = i;
            jobs.add(pool.submit(() -> job(number)));
        }
        int sum = 0;
        for (Future<Integer> job : jobs) sum += job.get();
        pool.shutdown();
        System.out.println("pool: " + sum);
    }

    static void serve(Socket peer) {
        byte[] buffer = new byte[64];
        try (peer) {
            int got;
            while ((got = peer.getInputStream().read(buffer)) > 0)
                peer.getOutputStream().write(buffer, 0, got);
        } catch (IOException error) {
            System.out.println(error);
        }
    }

    static void accept(ServerSocket server) {
        try {
            while (true) {
                Socket peer = server.accept();
                new Thread(() -> serve(peer)).start();
            }
        } catch (IOException closed) {
            // The end.
        }
    }

    static void ask(int port) {
        try (Socket socket = new Socket("127.0.0.1", port)) {
            for (int i = 0; i < 100; i++) {
                socket.getOutputStream().write(new byte[32]);
                if (socket.getInputStream().readNBytes(32).length != 32) return;
                synchronized (Threads.class) {
                    answers++;
                }
            }
        } catch (IOException error) {
            System.out.println(error);
        }
    }

    static void echo() throws Exception {
        ServerSocket server = new ServerSocket(0);
        Thread acceptor = new Thread(() -> accept(server));
        acceptor.start();
        Thread[] clients = new Thread[50];
        for (int i = 0; i < clients.length; i++) {
            clients[i] = new Thread(() -> ask(server.getLocalPort()));
            clients[i].start();
        }
        for (Thread client : clients) client.join();
        server.close();
        acceptor.join();
        System.out.println("echo: " + answers);
    }

    public static void main(String[] args) throws Exception {
        pool();
        echo();
        for (int i = 0; i < 20; i++) System.gc();
        System.out.println("end");
    }
}

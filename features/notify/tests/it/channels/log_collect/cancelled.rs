//! Sends that are cancelled.

use tokio::{
    io::{AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::*;

/// The store behind a proxy that holds back its responses until a value is sent on the channel.
async fn held(moto: &Moto) -> (String, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let store = moto.endpoint().replace("http://", "");
    let (open, is_open) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&store).await.unwrap();
            let mut is_open = is_open.clone();
            tokio::spawn(async move {
                let (mut requests, mut to_client) = client.into_split();
                let (mut answers, mut to_server) = server.into_split();
                let there = async {
                    let _ = copy(&mut requests, &mut to_server).await;
                    let _ = to_server.shutdown().await;
                };
                let back = async {
                    let _ = is_open.wait_for(|open| *open).await;
                    let _ = copy(&mut answers, &mut to_client).await;
                };
                tokio::join!(there, back);
            });
        }
    });
    (endpoint, open)
}

#[tokio::test]
async fn cancelled_send_leaves_no_upload() {
    let moto = store().await;
    let reached = Arc::new(Notify::new());
    let logs = Logs::serve(Log::Silent(TWO_PARTS, reached.clone()), Log::Unknown).await;
    let channels = collector(&logs.root, &moto.endpoint(), BUCKET, ANYBODY);
    let (channel, one) = (channels.get("log_collect").unwrap(), failed());
    tokio::select! {
        sent = channel.send(&one, "run 1") => panic!("the log has no end: {sent:?}"),
        () = async {
            reached.notified().await;
            while uploads(&moto).await == 0 {
                SystemClock.sleep(Duration::from_millis(20)).await;
            }
        } => {}
    }
    channel.close().await;
    assert_eq!(uploads(&moto).await, 0);
    assert_eq!(stored(&moto).await, [""; 0]);
}

/// The store has begun the upload, and its response is still on the way.
#[tokio::test]
async fn upload_whose_id_is_not_known_yet_is_aborted_after_cancelled_send() {
    let moto = store().await;
    let (endpoint, open) = held(&moto).await;
    let reached = Arc::new(Notify::new());
    let logs = Logs::serve(Log::Silent(TWO_PARTS, reached.clone()), Log::Unknown).await;
    let channels = collector(&logs.root, &endpoint, BUCKET, ANYBODY);
    let (channel, one) = (channels.get("log_collect").unwrap(), failed());
    tokio::select! {
        sent = channel.send(&one, "run 1") => panic!("the store does not answer: {sent:?}"),
        () = async {
            while uploads(&moto).await == 0 {
                SystemClock.sleep(Duration::from_millis(20)).await;
            }
        } => {}
    }
    open.send(true).unwrap();
    channel.close().await;
    assert_eq!(uploads(&moto).await, 0);
}

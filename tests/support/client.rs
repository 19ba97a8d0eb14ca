//! A thin client of the CRI, as the kubelet speaks it, and short ways to say what a story wants.

use std::path::Path;
use std::path::PathBuf;

use crioxide::cri::api;
use crioxide::cri::api::image_service_client::ImageServiceClient;
use crioxide::cri::api::runtime_service_client::RuntimeServiceClient;
use tonic::Status;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

/// As the kubelet's.
const MAX_MESSAGE: usize = 80 * 1024 * 1024;

/// A connection to a daemon.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// Every RPC of the runtime service.
    pub(crate) runtime: RuntimeServiceClient<Channel>,
    /// Every RPC of the image service.
    pub(crate) image: ImageServiceClient<Channel>,
    token: String,
    logs: PathBuf,
}

/// What a command in a container left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    /// Its exit code.
    pub(crate) code: i32,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error stream.
    pub(crate) stderr: String,
}

impl Client {
    /// Connects to the socket; pods will be in the cgroup of that name, and log to the directory.
    pub(crate) async fn connect(
        socket: &Path,
        cgroup: &str,
        logs: &Path,
    ) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::try_from(format!("unix://{}", socket.display()))?;
        let channel = endpoint.connect().await?;
        let runtime = RuntimeServiceClient::new(channel.clone());
        let image = ImageServiceClient::new(channel);
        Ok(Self {
            runtime: runtime.max_decoding_message_size(MAX_MESSAGE),
            image: image.max_decoding_message_size(MAX_MESSAGE),
            token: cgroup.to_owned(),
            logs: logs.to_owned(),
        })
    }

    /// Who answers.
    pub(crate) async fn version(&mut self) -> Result<api::VersionResponse, Status> {
        let request = api::VersionRequest { version: "v1".to_owned() };
        Ok(self.runtime.version(request).await?.into_inner())
    }

    /// A condition of the daemon, as `NetworkReady`.
    pub(crate) async fn condition(&mut self, kind: &str) -> Result<api::RuntimeCondition, Status> {
        let status = self.runtime.status(api::StatusRequest { verbose: false }).await?.into_inner();
        let conditions = status.status.unwrap_or_default().conditions;
        let found = conditions.into_iter().find(|condition| condition.r#type == kind);
        found.ok_or_else(|| Status::not_found(kind))
    }

    /// Pulls an image and gives its id.
    pub(crate) async fn pull(&mut self, reference: &str) -> Result<String, Status> {
        self.pull_as(reference, None, "default").await
    }

    /// Pulls with credentials, for a pod of a Kubernetes namespace.
    pub(crate) async fn pull_as(
        &mut self,
        reference: &str,
        auth: Option<api::AuthConfig>,
        namespace: &str,
    ) -> Result<String, Status> {
        let mut pod = self.pod("puller");
        if let Some(metadata) = pod.metadata.as_mut() {
            namespace.clone_into(&mut metadata.namespace);
        }
        let request = api::PullImageRequest {
            image: Some(image(reference)),
            auth,
            sandbox_config: Some(pod),
        };
        Ok(self.image.pull_image(request).await?.into_inner().image_ref)
    }

    /// All images.
    pub(crate) async fn images(&mut self) -> Result<Vec<api::Image>, Status> {
        let request = api::ListImagesRequest { filter: None };
        Ok(self.image.list_images(request).await?.into_inner().images)
    }

    /// One image, if it is there.
    pub(crate) async fn image(&mut self, reference: &str) -> Result<Option<api::Image>, Status> {
        let request = api::ImageStatusRequest { image: Some(image(reference)), verbose: false };
        Ok(self.image.image_status(request).await?.into_inner().image)
    }

    /// Removes an image.
    pub(crate) async fn remove_image(&mut self, reference: &str) -> Result<(), Status> {
        let request = api::RemoveImageRequest { image: Some(image(reference)) };
        self.image.remove_image(request).await.map(drop)
    }

    /// A pod with a network, a log directory and a cgroup of the story's own.
    pub(crate) fn pod(&self, name: &str) -> api::PodSandboxConfig {
        let metadata = api::PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("{name}-uid"),
            namespace: "default".to_owned(),
            attempt: 0,
        };
        api::PodSandboxConfig {
            metadata: Some(metadata),
            hostname: name.to_owned(),
            log_directory: self.logs.join(name).display().to_string(),
            linux: Some(api::LinuxPodSandboxConfig {
                cgroup_parent: format!("/{}/{name}", self.token),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// Starts a pod and gives its id.
    pub(crate) async fn run_pod(&mut self, pod: &api::PodSandboxConfig) -> Result<String, Status> {
        let request =
            api::RunPodSandboxRequest { config: Some(pod.clone()), runtime_handler: String::new() };
        Ok(self.runtime.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id)
    }

    /// A pod's state and addresses.
    pub(crate) async fn pod_status(&mut self, id: &str) -> Result<api::PodSandboxStatus, Status> {
        let request =
            api::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let answer = self.runtime.pod_sandbox_status(request).await?.into_inner();
        answer.status.ok_or_else(|| Status::internal("no status in the answer"))
    }

    /// A pod's primary address.
    pub(crate) async fn pod_ip(&mut self, id: &str) -> Result<std::net::IpAddr, Status> {
        let network = self.pod_status(id).await?.network.unwrap_or_default();
        network.ip.parse().map_err(|_| Status::internal(format!("address {:?}", network.ip)))
    }

    /// All pods.
    pub(crate) async fn pods(&mut self) -> Result<Vec<api::PodSandbox>, Status> {
        let request = api::ListPodSandboxRequest { filter: None };
        Ok(self.runtime.list_pod_sandbox(request).await?.into_inner().items)
    }

    /// Stops a pod.
    pub(crate) async fn stop_pod(&mut self, id: &str) -> Result<(), Status> {
        let request = api::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.runtime.stop_pod_sandbox(request).await.map(drop)
    }

    /// Stops and removes a pod, with its containers.
    pub(crate) async fn remove_pod(&mut self, id: &str) -> Result<(), Status> {
        self.stop_pod(id).await?;
        let request = api::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.runtime.remove_pod_sandbox(request).await.map(drop)
    }

    /// A container that runs a command.
    pub(crate) fn container(
        &self,
        name: &str,
        reference: &str,
        command: &[&str],
    ) -> api::ContainerConfig {
        api::ContainerConfig {
            metadata: Some(api::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(image(reference)),
            command: command.iter().map(|&text| text.to_owned()).collect(),
            log_path: format!("{name}.log"),
            linux: Some(api::LinuxContainerConfig::default()),
            ..Default::default()
        }
    }

    /// Creates a container and gives its id.
    pub(crate) async fn create(
        &mut self,
        pod_id: &str,
        pod: &api::PodSandboxConfig,
        container: &api::ContainerConfig,
    ) -> Result<String, Status> {
        let request = api::CreateContainerRequest {
            pod_sandbox_id: pod_id.to_owned(),
            config: Some(container.clone()),
            sandbox_config: Some(pod.clone()),
        };
        Ok(self.runtime.create_container(request).await?.into_inner().container_id)
    }

    /// Starts a container.
    pub(crate) async fn start(&mut self, id: &str) -> Result<(), Status> {
        let request = api::StartContainerRequest { container_id: id.to_owned() };
        self.runtime.start_container(request).await.map(drop)
    }

    /// Creates and starts a container, and gives its id.
    pub(crate) async fn run(
        &mut self,
        pod_id: &str,
        pod: &api::PodSandboxConfig,
        container: &api::ContainerConfig,
    ) -> Result<String, Status> {
        let id = self.create(pod_id, pod, container).await?;
        self.start(&id).await?;
        Ok(id)
    }

    /// Stops a container; after so many seconds by force.
    pub(crate) async fn stop(&mut self, id: &str, seconds: i64) -> Result<(), Status> {
        let request = api::StopContainerRequest { container_id: id.to_owned(), timeout: seconds };
        self.runtime.stop_container(request).await.map(drop)
    }

    /// Removes a container.
    pub(crate) async fn remove(&mut self, id: &str) -> Result<(), Status> {
        let request = api::RemoveContainerRequest { container_id: id.to_owned() };
        self.runtime.remove_container(request).await.map(drop)
    }

    /// A container's state.
    pub(crate) async fn status(&mut self, id: &str) -> Result<api::ContainerStatus, Status> {
        let request = api::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let answer = self.runtime.container_status(request).await?.into_inner();
        answer.status.ok_or_else(|| Status::internal("no status in the answer"))
    }

    /// All containers.
    pub(crate) async fn containers(&mut self) -> Result<Vec<api::Container>, Status> {
        let request = api::ListContainersRequest { filter: None };
        Ok(self.runtime.list_containers(request).await?.into_inner().containers)
    }

    /// Waits until a container has exited, and gives its state.
    pub(crate) async fn exited(&mut self, id: &str) -> Result<api::ContainerStatus, Status> {
        for _ in 0..1500 {
            let status = self.status(id).await?;
            if status.state() == api::ContainerState::ContainerExited {
                return Ok(status);
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Err(Status::deadline_exceeded(format!("container {id} does not exit")))
    }

    /// Runs a command in a container.
    pub(crate) async fn exec(&mut self, id: &str, command: &[&str]) -> Result<Ran, Status> {
        let request = api::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: command.iter().map(|&text| text.to_owned()).collect(),
            timeout: 30,
        };
        let answer = self.runtime.exec_sync(request).await?.into_inner();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Ran { code: answer.exit_code, stdout: text(answer.stdout), stderr: text(answer.stderr) })
    }

    /// What a container wrote to its log, in the form of the CRI.
    pub(crate) fn log(
        &self,
        pod: &api::PodSandboxConfig,
        container: &api::ContainerConfig,
    ) -> String {
        let path = Path::new(&pod.log_directory).join(&container.log_path);
        std::fs::read_to_string(path).unwrap_or_default()
    }
}

fn image(reference: &str) -> api::ImageSpec {
    api::ImageSpec { image: reference.to_owned(), ..Default::default() }
}

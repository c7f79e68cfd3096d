//! What to do about a condition that is not as it should be, by its type and its stable reason.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Whose condition it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whose<'a> {
    /// The namespace.
    pub(super) namespace: &'a str,
    /// The name.
    pub(super) name: &'a str,
}

/// What to do, in a sentence. `{ns}` and `{name}` stand for the `WsGateway`.
pub(super) fn advice(condition: &Condition, whose: Whose<'_>) -> String {
    let Whose { namespace, name } = whose;
    let sentence = by_reason(&condition.reason)
        .or_else(|| by_type(&condition.type_))
        .unwrap_or("the sentence above is all that is known; the operator's log has more under the same reason");
    sentence.replace("{ns}", namespace).replace("{name}", name)
}

/// Reasons are words of one meaning, whichever condition they stand at.
fn by_reason(reason: &str) -> Option<&'static str> {
    of_spec(reason)
        .or_else(|| of_references(reason))
        .or_else(|| of_objects(reason))
        .or_else(|| of_pods(reason))
        .or_else(|| of_entrance(reason))
}

/// What is wrong within the spec: the model's words.
fn of_spec(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "SchemaViolation" | "UnknownField" | "Unreadable" => {
            "compare the field with docs/api.md or `kubectl explain wsgateway.spec`; `wsgw lint -f FILE` says the same \
             without a cluster. Such an object got past an older CRD: install the CRD of the operator's version"
        }
        "InvalidName"
        | "InvalidSubject"
        | "InvalidPath"
        | "InvalidSize"
        | "InvalidDuration"
        | "SizeOutOfBounds"
        | "DurationOutOfBounds"
        | "InvalidServer"
        | "InvalidOrigin"
        | "InvalidNumber"
        | "InvalidNetwork"
        | "InvalidLabel"
        | "InvalidAnnotation"
        | "InvalidHost"
        | "InvalidPodSpec"
        | "InvalidRole"
        | "MemberMissing" => {
            "correct the field that the sentence names and apply again; `wsgw lint -f FILE` checks it before"
        }
        "UnknownPathParameter" => {
            "name the parameter in the route's path, or take it out of the subject"
        }
        "TemplateNotAllowed" => "write a subject without {…} there",
        "ClaimWithoutToken" => {
            "claims need a token: set spec.auth, or take {claims.…} out of the subject"
        }
        "DuplicateIssuer" => {
            "keep one of the two providers: a token says by its issuer whose it is"
        }
        "WeakSecret" => "put a longer secret into the Secret: `openssl rand -base64 48` makes one",
        "NoNatsServers" => {
            "name the NATS servers in spec.nats.servers, or those of all in the chart's natsServers"
        }
        "AmbiguousPaths" | "OverlappingPaths" => {
            "give one of the two routes a path that no request can mean both by"
        }
        "OverlappingSubjects" | "ConsumerShared" => {
            "give each of the two a durable consumer and subjects of its own"
        }
        "DeadLetterLoop" => "choose a dead-letter subject that the queue's stream does not take in",
        "Protected" => "take the field out of podTemplate: the operator derives it",
        _ => return None,
    })
}

/// What the spec names and is not as it must be.
fn of_references(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "SecretNotFound" => {
            "create the Secret in namespace {ns}, or correct its name; the operator sees it at once or within 5 minutes"
        }
        "SecretKeyNotFound" | "SecretKeyEmpty" => {
            "put the key into the Secret, or correct its name in the spec"
        }
        "ConfigMapNotFound" | "ConfigMapKeyNotFound" => {
            "create the ConfigMap with that key in namespace {ns}, or correct its name in the spec"
        }
        "UnexpectedContent" | "NoCertificate" | "NoPrivateKey" | "KeyMismatch" => {
            "put a PEM certificate chain (leaf first) and the private key that belongs to it into the Secret, keys \
             tls.crt and tls.key"
        }
        "HostNotCovered" => {
            "get a certificate for every name in exposure.hosts, or take the host out there"
        }
        "CertificateExpired" | "CertificateNotYetValid" => {
            "put a valid certificate into its Secret; the proxy takes it over by itself"
        }
        "CertificateNotMade" => {
            "the sentence says what is wrong with the names or periods in spec.exposure"
        }
        "SecretAccessDenied" => {
            "grant the operator the Secrets of namespace {ns} with the binding that the sentence prints"
        }
        "CertificateNotIssued" => {
            "ask cert-manager why: kubectl -n {ns} describe certificate {name}"
        }
        _ => return None,
    })
}

/// What could not be written.
fn of_objects(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "OwnershipConflict" => {
            "the operator never touches what is not its own: delete or rename that object, or rename the WsGateway"
        }
        "AccessDenied" => {
            "the operator lacks a permission: apply the Roles of its own version (manifests/install.yaml or the chart)"
        }
        "ObjectRefused" => {
            "the API server or a policy in the cluster refuses the object: the sentence names the field, most often \
             one of podTemplate"
        }
        "KindNotServed" => {
            "install the CRD that the sentence names, or turn off in the spec what needs it"
        }
        "ObjectDeleting" => {
            "wait; if it stays, look for finalizers: kubectl -n {ns} get all -l app.kubernetes.io/instance={name} -o yaml"
        }
        "RequestFailed" | "DereferenceFailed" | "ObserveFailed" | "StatusFailed" => {
            "wait: the operator tries again by itself, and its log says more"
        }
        "Paused" => "set spec.paused to false, and the operator goes on",
        "UpgradeHeld" => {
            "change the spec, or set spec.upgrade to Automatic, to take the newer gateways"
        }
        "UpgradeWaits" => {
            "wait for the WsGateways before it; if one of them is not Ready, mend that one first"
        }
        _ => return None,
    })
}

/// What pods say, and what keeps them from it.
fn of_pods(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "NoDeployment" | "Creating" | "PodsStarting" | "RollingOut" | "ScalingIn"
        | "Propagating" => "wait: it passes by itself",
        "PodsFailing" => {
            "kubectl -n {ns} describe pods -l app.kubernetes.io/instance={name}: a wrong image or pull secret, a missing \
             Secret to mount, or a crash; for that: kubectl -n {ns} logs -l app.kubernetes.io/instance={name} -c gateway --previous"
        }
        "PodsRefused" => {
            "change podTemplate as the message says, or ask who looks after the namespace for its Pod Security level, its \
             quota or an admission webhook"
        }
        "PodsPending" => {
            "kubectl -n {ns} describe pods -l app.kubernetes.io/instance={name}: no node has room, or none fits \
             podTemplate's nodeSelector, affinity and tolerations"
        }
        "NotEnoughReady" => {
            "kubectl -n {ns} logs -l app.kubernetes.io/instance={name} -c gateway: a gateway is ready once it has its \
             configuration and has reached NATS"
        }
        "ProgressDeadlineExceeded" => {
            "mend what keeps the newest pods from being ready; the old ones serve meanwhile, and the rollout goes on by itself"
        }
        "ConfigRejected" => {
            "gateways older than the operator may not know a new field: let the rollout end, or take the field out of the spec"
        }
        "PodsSilent" => {
            "let the operator reach port 9000 of the pods: a NetworkPolicy of the namespace may shut it out"
        }
        "NoReport" => "wait until a gateway is ready; the operator asks each minute",
        "Connecting" | "Unreachable" | "UnknownHost" | "Disconnected" | "TimedOut" => {
            "check spec.nats.servers, that NATS runs, and that no NetworkPolicy shuts the gateways out"
        }
        "KeysUnavailable" | "NoKeys" => {
            "check that the gateways reach the issuer (its address and caRef in spec.auth.providers, DNS, a NetworkPolicy, a \
             proxy) and that it runs; for a key file or a shared secret, the Secret or ConfigMap that is named"
        }
        "KeysStale" => {
            "look why the issuer does not answer, as the sentence says: tokens of known keys are accepted meanwhile, and those \
             of new keys are not"
        }
        "CertificateRejected" => {
            "put a certificate with its own key into the Secret that spec.exposure.tls names; clients see the one before meanwhile"
        }
        "Unauthorized" => "check spec.nats.credentials against what the NATS server knows",
        "TlsFailed" => {
            "check spec.nats.tls.ca against the NATS server's certificate, and that its name is the one in spec.nats.servers"
        }
        _ => return None,
    })
}

/// How clients come in.
fn of_entrance(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "HostConflict" => {
            "the older WsGateway keeps the host and path: change exposure.hosts or the route's path of one of them"
        }
        "NoAddress" => {
            "wait for the ingress controller or load balancer; if none takes it up, check exposure.ingress.className and \
             that its controller runs"
        }
        "Probing" | "GatewaysNotReady" => {
            "wait: it is tried within seconds of a gateway being ready"
        }
        "NotRouted" | "NoEndpoints" | "UnexpectedAnswer" => {
            "kubectl -n {ns} describe ingress {name}, and the log of the ingress controller behind that address: is it the \
             controller of the class, and may it read this namespace?"
        }
        "BadGateway" => {
            "let the ingress controller reach port 8000 of the pods: a NetworkPolicy of the namespace may shut it out"
        }
        "RefusedInFront" | "Redirected" | "UpgradeLost" | "PathChanged" => {
            "look for what does it: annotations that somebody put on the Ingress (kubectl -n {ns} get ingress {name} -o yaml) \
             and the controller's ConfigMap"
        }
        "WrongCertificate" => {
            "see that the Secret in tls of the Ingress exists and covers the host, and that no other Ingress has the host \
             with a Secret of its own"
        }
        "AnotherServer" => {
            "see who else has the host: kubectl get ingress,wsgateways -A, and where its DNS name leads"
        }
        "IngressRejected" => {
            "mend what the controller's own sentence names: an annotation, a host that is taken, a Secret"
        }
        "AddressNotDialable" | "NoRouteToAddress" | "NoAnswer" | "AddressUnknown" => {
            "where the address is not meant to be reached from inside the cluster, start the operator with --probe-via \
             (the chart's probe.via), such as the controller's Service; else look at firewalls between"
        }
        "ConnectionRefused" | "ConnectionCut" | "TlsHandshakeFailed" | "NoHttp" => {
            "see that the ingress controller runs and listens at that address, and its log"
        }
        "IngressClassNotFound" | "NoDefaultIngressClass" => {
            "name an IngressClass that exists (kubectl get ingressclasses) in exposure.ingress.className"
        }
        "IngressClassUnreadable" | "UnknownController" => {
            "set exposure.controller to nginx.org/ingress-controller or k8s.io/ingress-nginx where it is one of these; \
             for another one, write what it needs into exposure.ingress.annotations"
        }
        "IngressNginxRetired" => {
            "move to a controller that is maintained: F5's NGINX Ingress Controller or the Gateway API; the operator \
             writes for it as soon as the class says so"
        }
        "GatewayNotFound" => "name a Gateway of namespace {ns} in exposure.httpRoute.parentRefs",
        "GatewayClassNotFound" => "install the GatewayClass, or name a Gateway of another one",
        "GatewayUnreadable" | "NotReadable" => {
            "install the kind, or grant the operator to read it (manifests/install.yaml or the chart)"
        }
        "NoParent" | "RouteRefused" => {
            "kubectl -n {ns} describe httproute {name}: the Gateway's listener must allow routes of this namespace and host"
        }
        _ => return None,
    })
}

fn by_type(type_: &str) -> Option<&'static str> {
    Some(match type_ {
        "Accepted" => {
            "correct the field that the sentence names; `wsgw lint -f FILE` checks a file before it is applied"
        }
        "TLSReady" => "correct spec.exposure.tls, or the Secret or issuer that it names",
        "ExposureReady" => {
            "look at the way in from the outside: kubectl -n {ns} describe ingress,httproute,service -l \
             app.kubernetes.io/instance={name}"
        }
        "GatewayAvailable" => "kubectl -n {ns} describe pods -l app.kubernetes.io/instance={name}",
        "NatsConnected" => "check spec.nats, and the NATS server's own log for this client",
        "AuthReady" => "check spec.auth.providers, and that the gateways reach the issuers",
        "ConfigPropagated" => {
            "kubectl -n {ns} logs -l app.kubernetes.io/instance={name} -c gateway"
        }
        "MonitoringReady" => {
            "install what spec.monitoring asks for, or turn it off there; clients are served all the same"
        }
        "ControllerRetired" => "move to a controller that is maintained",
        _ => return None,
    })
}

"""Checks rendered manifests strictly against the schemas of Kubernetes, and against rules that no schema expresses.

check.py NAME VERSION[,VERSION]... FILE
    FILE is the output of kustomize. NAME, an overlay or another rendering, is used in messages and looked up in
    WITH_ZONES. The VERSION `newest` is the newest Kubernetes that kubernetes-validate has schemas for.
check.py --well-formed FILE...
    Only checks that each file is YAML and not empty, that every document has an apiVersion and a kind, and that no key
    is duplicated.

scripts/manifests renders the manifests and runs this program.
"""

import functools
import sys

import kubernetes_validate
import kubernetes_validate.utils
import yaml

NAMESPACE = "smilingchat"
CLUSTER_WIDE = {"Namespace", "StorageClass"}
# Custom resources, which kubernetes-validate has no schemas for.
WITHOUT_SCHEMA = {"InnoDBCluster"}
# Labels of the pods that the MySQL Operator creates. No manifest here describes these pods.
OPERATOR_LABEL = "mysql.oracle.com/cluster"
OPERATOR_CAN_SELECT = {"component": {"mysqld", "mysqlrouter"}, OPERATOR_LABEL: {"database"}}
# Volume types that the pod security standard `restricted` allows.
ALLOWED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
# Overlays for clusters in which every node has a zone.
WITH_ZONES = {"eks"}
# The taints of a lost node.
GONE = {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}
# Workloads whose pods mount a token for the API server. No other pod may mount one.
WITH_TOKEN = {("Job", "create-secret")}

# Without this cache, the package would read its schema files again for every document, thousands of times in all.
kubernetes_validate.utils.schema_contents = functools.lru_cache(kubernetes_validate.utils.schema_contents)


class Loader(yaml.SafeLoader):
    """Rejects duplicate keys, of which PyYAML would silently keep only the last. The merge key `<<` may be repeated."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1 and key != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is duplicated", node.start_mark)
        return super().construct_mapping(node, deep)


def documents_of(path):
    with open(path, encoding="utf-8") as file:
        documents = [document for document in yaml.load_all(file, Loader) if document is not None]
    if not documents:
        raise ValueError("the file is empty")
    for document in documents:
        if not isinstance(document, dict) or not document.get("apiVersion") or not document.get("kind"):
            raise ValueError(f"a document has no apiVersion or no kind: {str(document)[:60]}")
    return documents


class Checks:
    def __init__(self, documents):
        self.documents = documents
        self.faults = []
        self.workloads = [document for document in documents if self.template(document)]
        self.config_maps = {each["metadata"]["name"]: each for each in self.of_kind("ConfigMap")}
        # The Secrets that the job creates, by name, with the set of their keys; see create-secret.sh.
        self.secrets = {}
        for job in self.of_kind("Job"):
            if job["metadata"]["name"] == "create-secret":
                name, *items = self.containers(job)[0]["args"]
                self.secrets[name] = {item.partition("=")[0] for item in items}

    # --- lookup ---

    def of_kind(self, kind):
        return [document for document in self.documents if document["kind"] == kind]

    @staticmethod
    def template(document):
        if document["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "Job"}:
            return document["spec"]["template"]
        return None

    def pod(self, workload):
        return self.template(workload)["spec"]

    def containers(self, workload):
        return self.pod(workload).get("initContainers", []) + self.pod(workload)["containers"]

    def labels(self, workload):
        return self.template(workload)["metadata"]["labels"]

    def fault(self, document, text):
        self.faults.append(f"{document['kind']} {document['metadata']['name']}: {text}")

    # --- schemas ---

    def schemas(self, versions):
        for document in self.documents:
            if document["kind"] in WITHOUT_SCHEMA:
                continue
            for version in versions:
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    path = ".".join(str(part) for part in error.absolute_path)
                    where = f"{path or 'the document'}: {error.message[:300]}"
                    self.fault(document, f"not valid for Kubernetes {version}: {where}")
                except kubernetes_validate.SchemaNotFoundError:
                    self.fault(document, f"Kubernetes {version} has no {document['apiVersion']} {document['kind']}")

    # --- rules that no schema expresses ---

    def namespaces(self):
        seen = set()
        for document in self.documents:
            metadata = document["metadata"]
            wanted = None if document["kind"] in CLUSTER_WIDE else NAMESPACE
            if metadata.get("namespace") != wanted:
                self.fault(document, f"must be in the namespace {wanted}" if wanted else "must not have a namespace")
            identity = (document["apiVersion"], document["kind"], metadata["name"])
            if identity in seen:
                self.fault(document, "is defined twice")
            seen.add(identity)

    def images(self):
        for workload in self.workloads:
            for container in self.containers(workload):
                image = container["image"]
                _, colon, tag = image.rpartition("/")[2].partition(":")
                if "@sha256:" not in image and (not colon or tag == "latest"):
                    self.fault(workload, f"the image {image} is not pinned to a version")

    def restricted(self):
        """The pods of every workload must comply with the pod security standard `restricted`, and with stricter rules:
        each container has a user other than root, adds no capability, declares no port below 1024, and has a read-only
        root file system.

        Some fields of the standard that no manifest here sets, such as `sysctls`, are not checked.
        """
        for workload in self.workloads:
            pod = self.pod(workload)
            context = pod.get("securityContext", {})
            for field in ("hostNetwork", "hostPID", "hostIPC"):
                if pod.get(field):
                    self.fault(workload, f"{field} is not allowed")
            for volume in pod.get("volumes", []):
                if set(volume) - {"name"} - ALLOWED_VOLUMES:
                    self.fault(workload, f"the volume {volume['name']} has a type that is not allowed")
            for container in self.containers(workload):
                own = container.get("securityContext", {})

                def require(holds, text, name=container["name"]):
                    if not holds:
                        self.fault(workload, f"the container {name} {text}")

                require(own.get("runAsNonRoot", context.get("runAsNonRoot")) is True, "may run as root")
                require(own.get("runAsUser", context.get("runAsUser")), "does not set a non-root user")
                profile = own.get("seccompProfile", context.get("seccompProfile", {})).get("type")
                require(profile in {"RuntimeDefault", "Localhost"}, "has no seccomp profile")
                require(own.get("allowPrivilegeEscalation") is False, "may gain privileges")
                require(own.get("capabilities", {}).get("drop") == ["ALL"], "does not drop all capabilities")
                require(not own.get("capabilities", {}).get("add"), "adds capabilities")
                require(not own.get("privileged"), "is privileged")
                require(own.get("readOnlyRootFilesystem") is True, "has a writable root file system")
                for port in container.get("ports", []):
                    require(not port.get("hostPort"), "uses a port of its node")
                    require(port["containerPort"] >= 1024, "declares a privileged port")

    def tokens(self):
        for workload in self.workloads:
            allowed = (workload["kind"], workload["metadata"]["name"]) in WITH_TOKEN
            if self.pod(workload).get("automountServiceAccountToken") is not allowed:
                self.fault(workload, f"automountServiceAccountToken is not {str(allowed).lower()}")
            account = self.pod(workload).get("serviceAccountName")
            if account and account not in {each["metadata"]["name"] for each in self.of_kind("ServiceAccount")}:
                self.fault(workload, f"there is no ServiceAccount {account}")
        for binding in self.of_kind("RoleBinding"):
            for kind, name in [("Role", binding["roleRef"]["name"])] + [
                (each["kind"], each["name"]) for each in binding["subjects"]
            ]:
                if name not in {each["metadata"]["name"] for each in self.of_kind(kind)}:
                    self.fault(binding, f"there is no {kind} {name}")

    def resources(self):
        for workload in self.workloads:
            for container in self.containers(workload):
                resources = container.get("resources", {})
                if not {"cpu", "memory"} <= set(resources.get("requests", {})):
                    self.fault(workload, f"the container {container['name']} does not request CPU and memory")
                if "memory" not in resources.get("limits", {}):
                    self.fault(workload, f"the container {container['name']} has no memory limit")

    @staticmethod
    def matches(selector, labels):
        if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
            return False
        for expression in selector.get("matchExpressions", []):
            if expression["operator"] != "In" or labels.get(expression["key"]) not in expression["values"]:
                return False
        return True

    def selected(self, document, selector):
        """Returns the workloads whose pods are selected. A selector, or a value in it, that selects no pod is a fault.

        A selector for the operator's pods may select no workload, but may name only labels that those pods have.
        """
        chosen = [workload for workload in self.workloads if self.matches(selector, self.labels(workload))]
        wanted = selector.get("matchLabels", {})
        if OPERATOR_LABEL in wanted and self.of_kind("InnoDBCluster"):
            for key, value in wanted.items():
                if value not in OPERATOR_CAN_SELECT.get(key, ()):
                    self.fault(document, f"the operator's pods have no label {key}={value}")
            return chosen
        if not chosen:
            self.fault(document, f"selects no pod: {selector}")
        for expression in selector.get("matchExpressions", []):
            for value in expression["values"]:
                if not any(self.labels(workload).get(expression["key"]) == value for workload in chosen):
                    self.fault(document, f"selects no pod with {expression['key']}={value}")
        return chosen

    def ports(self, workload):
        return {
            alias
            for container in self.containers(workload)
            for port in container.get("ports", [])
            for alias in (port["containerPort"], port.get("name"))
        }

    def selectors(self):
        for workload in self.workloads:
            own = workload["spec"].get("selector")
            if own and not self.matches(own, self.labels(workload)):
                self.fault(workload, "does not select its own pods")
            for constraint in self.pod(workload).get("topologySpreadConstraints", []):
                if not self.matches(constraint["labelSelector"], self.labels(workload)):
                    self.fault(workload, "has a topologySpreadConstraint that does not select its own pods")
            for container in self.containers(workload):
                for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                    port = container.get(probe, {}).get("httpGet", {}).get("port")
                    if port is not None and port not in self.ports(workload):
                        self.fault(workload, f"the {probe} uses port {port}, which the container does not declare")
        for service in self.of_kind("Service"):
            for workload in self.selected(service, {"matchLabels": service["spec"]["selector"]}):
                for port in service["spec"]["ports"]:
                    target = port.get("targetPort", port["port"])
                    if target not in self.ports(workload):
                        self.fault(service, f"targets port {target}, which no container declares")
        for budget in self.of_kind("PodDisruptionBudget"):
            self.selected(budget, budget["spec"]["selector"])
        for scaler in self.of_kind("HorizontalPodAutoscaler"):
            target = scaler["spec"]["scaleTargetRef"]
            if target["name"] not in {each["metadata"]["name"] for each in self.of_kind(target["kind"])}:
                self.fault(scaler, f"there is no {target['kind']} {target['name']}")
        for stateful in self.of_kind("StatefulSet"):
            if stateful["spec"]["serviceName"] not in {each["metadata"]["name"] for each in self.of_kind("Service")}:
                self.fault(stateful, "its serviceName names no Service")

    def network_policies(self):
        policies = self.of_kind("NetworkPolicy")
        if not any(
            each["spec"]["podSelector"] == {} and set(each["spec"]["policyTypes"]) == {"Ingress", "Egress"}
            and not each["spec"].get("ingress") and not each["spec"].get("egress")
            for each in policies
        ):
            self.faults.append("no NetworkPolicy denies all traffic by default")
        for policy in policies:
            spec = policy["spec"]
            chosen = self.selected(policy, spec["podSelector"]) if spec["podSelector"] else []
            for rule in spec.get("ingress", []):
                for port in rule.get("ports", []):
                    for workload in chosen:
                        if port["port"] not in self.ports(workload):
                            self.fault(policy, f"allows ingress to port {port['port']}, which no container declares")
            for rule in spec.get("ingress", []) + spec.get("egress", []):
                for peer in rule.get("from", []) + rule.get("to", []):
                    if "podSelector" not in peer or "namespaceSelector" in peer:
                        continue
                    for workload in self.selected(policy, peer["podSelector"]):
                        for port in rule.get("ports", []) if "to" in rule else []:
                            if port["port"] not in self.ports(workload):
                                self.fault(policy, f"allows egress to port {port['port']}, which no container declares")

    def references(self):
        def check(document, kind, name, keys):
            if kind == "ConfigMap":
                there = self.config_maps.get(name, {}).get("data") if name in self.config_maps else None
            else:
                there = self.secrets.get(name)
            if there is None:
                self.fault(document, f"there is no {kind} {name}")
                return
            for key in set(keys) - set(there):
                self.fault(document, f"the {kind} {name} has no {key}")

        for workload in self.workloads:
            mounted = set()
            for volume in self.pod(workload).get("volumes", []):
                for kind, field, name in [("ConfigMap", "configMap", "name"), ("Secret", "secret", "secretName")]:
                    if field in volume:
                        keys = [item["key"] for item in volume[field].get("items", [])]
                        check(workload, kind, volume[field][name], keys)
                mounted.add(volume["name"])
            mounted |= {each["metadata"]["name"] for each in workload["spec"].get("volumeClaimTemplates", [])}
            used = set()
            for container in self.containers(workload):
                for source in container.get("envFrom", []):
                    for kind, field in [("ConfigMap", "configMapRef"), ("Secret", "secretRef")]:
                        if field in source:
                            check(workload, kind, source[field]["name"], [])
                for variable in container.get("env", []):
                    for kind, field in [("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")]:
                        source = variable.get("valueFrom", {}).get(field)
                        if source:
                            check(workload, kind, source["name"], [source["key"]])
                used |= {mount["name"] for mount in container.get("volumeMounts", [])}
            for name in used ^ mounted:
                self.fault(workload, f"the volume {name} is declared but not mounted, or mounted but not declared")
        for cluster in self.of_kind("InnoDBCluster"):
            check(cluster, "Secret", cluster["spec"]["secretName"], ["rootUser", "rootHost", "rootPassword"])

    def no_secrets(self):
        for secret in self.of_kind("Secret"):
            self.fault(secret, "must not be in a manifest, since its values would be in the repository")

    def nodes(self, zones):
        # Pods must be spread over zones if every node has a zone, and otherwise must not: the scheduler skips nodes
        # without a listed key.
        keys = ["kubernetes.io/hostname"] + (["topology.kubernetes.io/zone"] if zones else [])
        for deployment in self.of_kind("Deployment"):
            pod = self.pod(deployment)
            spread = sorted(each["topologyKey"] for each in pod.get("topologySpreadConstraints", []))
            if spread != keys:
                self.fault(deployment, f"is spread over {spread}, but must be spread over {keys}")
            soon = {each.get("key") for each in pod.get("tolerations", []) if each.get("tolerationSeconds", 300) <= 30}
            if not GONE <= soon:
                self.fault(deployment, "tolerates the taints of a lost node for more than 30 s")

    def drain(self):
        for workload in self.workloads:
            grace = self.pod(workload).get("terminationGracePeriodSeconds", 30)
            for container in self.containers(workload):
                sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
                drain = 0
                for source in container.get("envFrom", []):
                    settings = self.config_maps.get(source.get("configMapRef", {}).get("name"), {}).get("data", {})
                    drain = int(settings.get("SMILINGCHAT_DRAIN_TIMEOUT", drain))
                if grace <= sleep + drain:
                    self.fault(workload, f"{grace} s is too short for a preStop of {sleep} s and a drain of {drain} s")

    def invariants(self, zones):
        self.namespaces()
        self.images()
        self.restricted()
        self.tokens()
        self.resources()
        self.selectors()
        self.network_policies()
        self.references()
        self.no_secrets()
        self.drain()
        self.nodes(zones)


def main(arguments):
    if arguments[:1] == ["--well-formed"]:
        for path in arguments[1:]:
            try:
                kinds = [document["kind"] for document in documents_of(path)]
            except (yaml.YAMLError, ValueError) as error:
                print(f"{path}: {error}", file=sys.stderr)
                return 1
            print(f"{path}: well-formed; not validated, because no schema is available: {', '.join(kinds)}")
        return 0
    name, versions, path = arguments
    versions = [kubernetes_validate.latest_version() if each == "newest" else each for each in versions.split(",")]
    try:
        checks = Checks(documents_of(path))
    except (yaml.YAMLError, ValueError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    checks.schemas(versions)
    checks.invariants(name in WITH_ZONES)
    for fault in checks.faults:
        print(f"{name}: {fault}", file=sys.stderr)
    left = [each["kind"] for each in checks.documents if each["kind"] in WITHOUT_SCHEMA]
    if not checks.faults:
        note = f"; not validated, because no schema is available: {', '.join(left)}" if left else ""
        print(f"{name}: {len(checks.documents) - len(left)} manifests valid for Kubernetes {', '.join(versions)}{note}")
    return 1 if checks.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
